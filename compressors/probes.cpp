// What other fractions would keep of a step's input, measured beside what is sent: one selection of the
// largest fraction, and each smaller one from its survivors (multi-level compression of GraVAC).
#include <algorithm>

#include "comm/error.h"
#include "compressors/codec_compressor.h"
#include "compressors/kernels/moments.h"
#include "compressors/kernels/select.h"
#include "compressors/ratio.h"

namespace acp {

void Sparsifier::narrow(std::span<const float> y, const Block&, double ratio, const Selection& from,
                        Selection& chosen) {
  largest_of(from, static_cast<std::size_t>(kept_count(static_cast<std::int64_t>(y.size()), ratio, false)),
             chosen);
}

void Sparsifier::largest_of(const Selection& from, std::size_t k, Selection& chosen) {
  k = std::min(k, from.indices.size());
  chosen.clear();
  if (k == 0) return;
  // Survivors are in ascending order, so among equals the lower place is the lower index here, too.
  kernels::top_k(from.values, k, chosen.indices, chosen.values);
  for (auto& index : chosen.indices) index = from.indices[index];
}

void CodecCompressor::set_probes(std::span<const double> ratios) {
  if (!ratios.empty() && !settings_.ratio_knob) return Compressor::set_probes(ratios);
  if (!std::ranges::is_sorted(ratios, std::greater<>())) {
    throw Error("probes are not in descending order of the kept fraction");
  }
  probes_.assign(ratios.begin(), ratios.end());
  probe_norms_ = {};
}

void CodecCompressor::probe(const Bucket& bucket, const StepContext& step) {
  probe_norms_ = {};
  probe_norms_.kept.resize(probes_.size());
  for (auto& part : parts_) {
    part.probed.resize(probes_.size());
    if (part.count == 0) continue;
    with_block(part, bucket, step, [&](std::span<const float> gradient, const Block& block) {
      const auto y = values(part);
      probe_norms_.gradient.add(kernels::sum_sq(gradient));
      probe_norms_.input.add(kernels::sum_sq(y));
      part.sparsifier->set_ratio(probes_[0]);
      part.probed[0].clear();
      part.sparsifier->select(y, gradient, block, part.probed[0]);
      for (std::size_t i = 0; i < probes_.size(); ++i) {
        if (i > 0) part.sparsifier->narrow(y, block, probes_[i], part.probed[0], part.probed[i]);
        probe_norms_.kept[i].add(kernels::sum_sq(part.probed[i].values));
      }
      part.sparsifier->set_ratio(part.ratio);
    });
  }
}

}  // namespace acp
