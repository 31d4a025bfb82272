// `terngrad`: -1, 0 or 1 times the largest magnitude, at random with the right mean.
#include <algorithm>
#include <array>
#include <cmath>

#include "compressors/code.h"
#include "compressors/coded_method.h"
#include "compressors/kernels/levels.h"
#include "compressors/kernels/moments.h"
#include "compressors/kernels/pack.h"
#include "compressors/kernels/random.h"

namespace acp {
namespace {

constexpr int bits = 2;
constexpr std::size_t stretch = 2048;  // values whose levels and random words stay in the first cache

// Code: the scale, then 2 bits a value: 0, 1 = +scale, 2 = -scale.
class TernGrad final : public Quantiser {
 public:
  explicit TernGrad(const Values& values) : clip_(values.number("clip", 0, 1e6)) {}

  std::size_t bytes(std::int64_t n) const override {
    return n == 0 ? 0 : sizeof(float) + kernels::packed_bytes(static_cast<std::size_t>(n), bits);
  }

  void encode(std::span<const float> x, const Block& block, std::span<std::byte> code) override {
    encode(x, nullptr, block, code);
  }

  void encode_and_keep(std::span<float> y, const Block& block, std::span<std::byte> code) override {
    encode(y, y.data(), block, code);
  }

  void decode(std::span<const std::byte> code, std::span<float> out) const override {
    code::check_size("terngrad", code, bytes(static_cast<std::int64_t>(out.size())));
    if (out.empty()) return;
    const float largest = code::read(code, 0);
    code::check_scale("terngrad", largest);
    const auto packed = code.subspan(sizeof(float));
    code::check_padding("terngrad", packed, out.size() * bits);
    std::array<std::uint8_t, stretch> levels;
    for (std::size_t from = 0; from < out.size(); from += stretch) {
      const auto part = out.subspan(from, std::min(stretch, out.size() - from));
      const auto some = std::span(levels).first(part.size());
      kernels::unpack_levels(packed.data() + from * bits / 8, bits, some);
      if (kernels::largest_level(some) > 2) code::refuse_level("terngrad", 3, 2);
      kernels::ternary_values(levels.data(), largest, part);
    }
  }

 private:
  // `rest` is null, or where x lies: there what the code lacks is left.
  void encode(std::span<const float> x, float* rest, const Block& block, std::span<std::byte> code) const {
    if (x.empty()) return;
    const float largest = scale(x);
    code::write(code, 0, largest);
    auto* const packed = code.data() + sizeof(float);
    const auto key = block.own(Purpose::round).key();
    std::array<std::uint32_t, stretch> words;
    std::array<std::uint8_t, stretch> levels{};
    std::array<float, stretch> decoded{};
    for (std::size_t from = 0; from < x.size(); from += stretch) {
      const auto part = x.subspan(from, std::min(stretch, x.size() - from));
      if (largest > 0) {
        kernels::random_words(key, from, std::span(words).first(part.size()));
        kernels::ternary_levels(part, largest, words, levels.data());
      }
      kernels::pack_levels(std::span(levels).first(part.size()), bits, packed + from * bits / 8);
      if (rest == nullptr) continue;
      kernels::ternary_values(levels.data(), largest, std::span(decoded).first(part.size()));
      for (std::size_t i = 0; i < part.size(); ++i) rest[from + i] -= decoded[i];
    }
  }

  // The largest magnitude after clipping at clip_ standard deviations. Without spread (one value, or all
  // alike) that would clip everything to 0, so nothing is clipped then.
  float scale(std::span<const float> x) const {
    const auto moments = kernels::moments(x);
    if (clip_ == 0) return moments.largest;
    const auto n = static_cast<double>(x.size());
    const double mean = moments.sum / n, variance = moments.squares / n - mean * mean;
    const double deviation = std::sqrt(std::max(variance, 0.0));
    if (deviation <= 1e-6 * static_cast<double>(moments.largest)) return moments.largest;
    return static_cast<float>(std::min(clip_ * deviation, static_cast<double>(moments.largest)));
  }

  double clip_;
};

const bool registered = register_quantiser({
    .name = "terngrad",
    .summary = "ternary: sign times the largest magnitude or 0, at random, unbiased but for the clipping",
    .source = "Wen et al., TernGrad, NeurIPS 2017, sections 3.1 and 3.3",
    .keys = {{"clip", "2.5", "values are clipped at so many standard deviations, 0 to 1e6; 0 = not at all"}},
    .make = [](const Values& values,
               std::span<const std::int64_t>) { return std::make_unique<TernGrad>(values); },
});

}  // namespace
}  // namespace acp
