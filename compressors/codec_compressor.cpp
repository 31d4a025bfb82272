// What the exchanges of coded values share.
#include "compressors/codec_compressor.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "compressors/cuda/dispatch.h"
#include "compressors/names.h"
#include "compressors/residual.h"
#include "compressors/staged.h"

namespace acp {
namespace {

std::span<float> floats(const at::Tensor& x) {
  return {x.data_ptr<float>(), static_cast<std::size_t>(x.numel())};
}

}  // namespace

void Sparsifier::set_ratio(double) {
  throw ConfigError("this sparsifier has no ratio that a policy could set; take policy \"uniform\"");
}

void Quantiser::set_bits(double) {
  throw ConfigError("this quantiser has no bits that a policy could set; take policy \"uniform\"");
}

at::Tensor as_tensor(std::shared_ptr<Bytes> bytes) {
  auto* const data = bytes->data();
  const auto size = static_cast<std::int64_t>(bytes->size());
  return at::from_blob(
      data, {size}, [owner = std::move(bytes)](void*) {}, at::kByte);
}

std::span<std::byte> as_bytes(const at::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.data_ptr()), static_cast<std::size_t>(tensor.nbytes())};
}

std::unique_ptr<Compressor> make_codec(const Bucket& bucket, CodecSettings settings) {
  if (bucket.grads.numel() > std::int64_t{0xffffffff}) {
    throw ConfigError("compressor " + settings.method +
                      " counts elements with 32 bits: use more and smaller buckets");
  }
  if (const auto* const kernels = device::kernels_for(bucket.grads)) {
    if (auto codec = make_device_codec(bucket, settings, *kernels)) return codec;
  }
  if (!bucket.grads.is_cpu()) {
    return make_staged(bucket, [&](const Bucket& mirror) { return make_codec(mirror, settings); });
  }
  if (settings.exchange == "reduce") return make_reduce_codec(bucket, std::move(settings));
  if (settings.exchange == "tree") return make_tree_codec(bucket, std::move(settings));
  if (settings.exchange == "scatter") return make_scatter_codec(bucket, std::move(settings));
  return make_gather_codec(bucket, std::move(settings));
}

CodecCompressor::CodecCompressor(const Bucket& bucket, CodecSettings settings)
    : settings_(std::move(settings)),
      slices_(bucket.slices),
      memory_(bucket, settings_.memory, settings_.feedback, settings_.momentum, settings_.measure_error) {
  const auto add_part = [&](std::size_t first, std::size_t count) {
    Part part;
    part.first = first;
    part.slices = count;
    part.name = slices_[first].name;
    part.shape = slices_[first].shape;
    part.offset = slices_[first].offset;
    for (std::size_t k = first; k < first + count; ++k) part.count += slices_[k].numel();
    if (count > 1) {
      part.name += " and " + std::to_string(count - 1) + " more";
      part.shape = {part.count};
    }
    // Several parameters coded together are no vector.
    part.plain =
        settings_.plain && settings_.plain(count > 1 ? std::vector<std::int64_t>{1, part.count} : part.shape);
    if (settings_.sparsifier) part.sparsifier = settings_.sparsifier();
    part.ratio = settings_.ratio;
    if (settings_.quantiser) {
      part.quantiser = settings_.quantiser(settings_.sparsifier ? std::span<const std::int64_t>()
                                                                : std::span(std::as_const(part.shape)));
    }
    parts_.push_back(std::move(part));
  };
  if (settings_.by_layer) {
    for (std::size_t k = 0; k < slices_.size(); ++k) add_part(k, 1);
  } else if (!slices_.empty()) {
    add_part(0, slices_.size());
  }
  if (settings_.sparsifier && settings_.memory != MemoryKind::none &&
      !settings_.sparsifier()->allows_memory()) {
    throw ConfigError(settings_.method +
                      " with these keys enlarges what it sends, so an error memory would grow without "
                      "end; take memory none");
  }
  // Also of an empty bucket: with one, a specification's values are checked.
  if (parts_.empty() && settings_.sparsifier) settings_.sparsifier();
  if (parts_.empty() && settings_.quantiser) settings_.quantiser(std::vector<std::int64_t>{0});
  if (!parts_.empty() && parts_[0].quantiser) combine_ = parts_[0].quantiser->combine();
  if (bucket.grads.scalar_type() != at::kFloat) {
    converted_ = at::zeros(bucket.grads.sizes(), bucket.grads.options().dtype(at::kFloat));
  }
}

void CodecCompressor::begin(const Bucket& bucket, const StepContext& step) {
  memory_.check(bucket, step.rank);
  memory_.take(bucket);
  sent_elements_ = settings_.sparsifier ? 0 : -1;
  if (!probes_.empty()) probe(bucket, step);
}

void CodecCompressor::clear_result(Bucket& bucket) {
  result_ = floats(converted_.defined() ? converted_ : bucket.grads);
  std::ranges::fill(result_, 0.0F);
  for (auto& part : parts_) part.touched.clear();
}

bool CodecCompressor::any(const Part& part, const Flags& used) const {
  const auto of_part = std::span(used).subspan(part.first, part.slices);
  return std::ranges::any_of(of_part, [](auto flag) { return flag != 0; });
}

bool CodecCompressor::all(const Part& part, const Flags& used) const {
  const auto of_part = std::span(used).subspan(part.first, part.slices);
  return std::ranges::all_of(of_part, [](auto flag) { return flag != 0; });
}

std::span<float> CodecCompressor::values(const Part& part) {
  return memory_.values().subspan(static_cast<std::size_t>(part.offset),
                                  static_cast<std::size_t>(part.count));
}

void CodecCompressor::choose(Part& part, const Bucket& bucket, const StepContext& step) {
  part.chosen.clear();
  if (part.count == 0) return;
  // A probe may have chosen it already.
  const auto known = std::ranges::find(probes_, part.ratio);
  if (known != probes_.end() && (known == probes_.begin() || part.sparsifier->narrows_exactly())) {
    std::swap(part.chosen, part.probed[static_cast<std::size_t>(known - probes_.begin())]);
    return;
  }
  with_block(part, bucket, step, [&](std::span<const float> gradient, const Block& block) {
    part.sparsifier->select(values(part), gradient, block, part.chosen);
  });
}

void CodecCompressor::with_block(const Part& part, const Bucket& bucket, const StepContext& step,
                                 const std::function<void(std::span<const float>, const Block&)>& work) {
  Block block = part.block(step);
  std::vector<Block::Range> absent;
  for (std::size_t k = part.first; k < part.first + part.slices; ++k) {
    const auto begin = static_cast<std::size_t>(slices_[k].offset - part.offset);
    if (bucket.used[k] == 0) absent.push_back({begin, static_cast<std::size_t>(slices_[k].numel())});
  }
  block.absent = absent;
  if (bucket.squares.defined()) {
    // Of what nobody counted the step's gradient is the one sample.
    for (std::size_t k = part.first; k < part.first + part.slices; ++k) {
      if (bucket.has_squares[k] != 0) continue;
      const auto& slice = slices_[k];
      const auto g = memory_.gradients().subspan(static_cast<std::size_t>(slice.offset),
                                                 static_cast<std::size_t>(slice.numel()));
      std::ranges::transform(g, floats(bucket.squares).begin() + slice.offset, [](float x) { return x * x; });
    }
    block.squares = floats(bucket.squares)
                        .subspan(static_cast<std::size_t>(part.offset), static_cast<std::size_t>(part.count));
  }
  const auto gradient = memory_.gradients().subspan(static_cast<std::size_t>(part.offset),
                                                    static_cast<std::size_t>(part.count));
  work(gradient, block);
}

void CodecCompressor::count_sent(std::span<const float> values) {
  if (sent_elements_ >= 0) sent_elements_ += std::ranges::count_if(values, [](float x) { return x != 0; });
}

void CodecCompressor::sent(Part& part, std::span<const float> values) {
  memory_.sent(part.offset, part.chosen.indices, values);
  count_sent(values);
  part.sparsifier->sent(part.chosen.indices, values);
}

void CodecCompressor::add(Part& part, std::span<const std::uint32_t> indices, std::span<const float> decoded,
                          const Flags& used) {
  float* const sums = result_.data() + part.offset;
  const bool votes = combine_ == Combine::majority;
  if (all(part, used)) {
    for (std::size_t i = 0; i < indices.size(); ++i) sums[indices[i]] += decoded[i];
    if (votes) part.touched.insert(part.touched.end(), indices.begin(), indices.end());
    return;
  }
  std::size_t slice = part.first;
  for (std::size_t i = 0; i < indices.size(); ++i) {
    while (part.offset + indices[i] >= slices_[slice].offset + slices_[slice].numel()) ++slice;
    if (used[slice] == 0) continue;
    sums[indices[i]] += decoded[i];
    if (votes) part.touched.push_back(indices[i]);
  }
}

void CodecCompressor::add(const Part& part, std::int64_t from, std::span<const float> decoded,
                          const Flags& used) {
  const std::int64_t begin = part.offset + from, end = begin + static_cast<std::int64_t>(decoded.size());
  for (std::size_t k = part.first; k < part.first + part.slices; ++k) {
    if (used[k] == 0) continue;
    const auto& slice = slices_[k];
    const auto last = std::min(end, slice.offset + slice.numel());
    for (auto i = std::max(begin, slice.offset); i < last; ++i) {
      result_[static_cast<std::size_t>(i)] += decoded[static_cast<std::size_t>(i - begin)];
    }
  }
}

void CodecCompressor::combine(int ranks) {
  const auto vote = [](float sum) { return sum >= 0 ? 1.0F : -1.0F; };
  const auto divisor = static_cast<float>((combine_ == Combine::mean ? ranks : 1) * settings_.feedback.scale);
  for (auto& part : parts_) {
    const auto sums =
        result_.subspan(static_cast<std::size_t>(part.offset), static_cast<std::size_t>(part.count));
    if (combine_ == Combine::majority && part.sparsifier && !part.plain) {
      for (const auto index : part.touched)
        sums[index] = vote(sums[index]);  // a second visit changes nothing
    } else if (combine_ == Combine::majority && !part.plain) {
      for (auto& sum : sums) sum = vote(sum);
    } else {
      const auto by = part.plain ? static_cast<float>(ranks * settings_.feedback.scale) : divisor;
      if (by != 1) {
        for (auto& sum : sums) sum /= by;
      }
    }
  }
}

at::Tensor CodecCompressor::pack_plain(const Bucket& bucket) {
  std::int64_t total = 0;
  for (const auto& part : parts_) total += part.plain ? part.count : 0;
  auto message = at::zeros({total}, at::kFloat);
  auto to = floats(message);
  for (const auto& part : parts_) {
    if (!part.plain) continue;
    const auto y = values(part);
    if (any(part, bucket.used)) {
      std::ranges::copy(y, to.begin());
      memory_.sent(part.offset, to.first(y.size()));
      count_sent(y);
    }
    to = to.subspan(y.size());
  }
  return message;
}

void CodecCompressor::unpack_plain(const at::Tensor& sums, const Bucket& bucket) {
  auto from = floats(sums);
  for (const auto& part : parts_) {
    if (!part.plain) continue;
    const auto count = static_cast<std::size_t>(part.count);
    if (any(part, bucket.used)) {
      std::ranges::copy(from.first(count), result_.begin() + static_cast<std::ptrdiff_t>(part.offset));
    }
    from = from.subspan(count);
  }
}

void CodecCompressor::finish(Bucket& bucket) {
  memory_.done();
  norms_ = memory_.norms();
  if (converted_.defined()) bucket.grads.copy_(converted_);
}

void CodecCompressor::write_flags(const Flags& used, Bytes& out) const {
  const auto at = out.size();
  out.resize(at + flag_bytes());
  for (std::size_t k = 0; k < used.size(); ++k) {
    if (used[k] != 0) out[at + k / 8] |= std::byte(1U << (k % 8));
  }
}

CodecCompressor::Flags CodecCompressor::read_flags(Reader& in) const {
  const auto bytes = in.take(flag_bytes());
  Flags used(slices_.size());
  for (std::size_t k = 0; k < used.size(); ++k) {
    used[k] = (std::to_integer<unsigned>(bytes[k / 8]) >> (k % 8)) & 1U;
  }
  return used;
}

CodecCompressor::Flags CodecCompressor::merge(const std::vector<Flags>& ranks) {
  Flags result = ranks.at(0);
  for (const auto& used : ranks) {
    for (std::size_t k = 0; k < result.size(); ++k) result[k] |= used[k];
  }
  return result;
}

}  // namespace acp
