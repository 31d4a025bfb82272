// `onebit`: which side of zero a value is on, with the mean of each side.
#include "compressors/code.h"
#include "compressors/coded_method.h"
#include "compressors/kernels/moments.h"
#include "compressors/kernels/pack.h"

namespace acp {
namespace {

// Code: mean of the negative values, mean of the others (0 for none), then one bit a value, 1 = not negative.
class OneBit final : public Quantiser {
 public:
  std::size_t bytes(std::int64_t n) const override {
    return n == 0 ? 0 : header + kernels::packed_bytes(static_cast<std::size_t>(n), 1);
  }

  void encode(std::span<const float> x, const Block&, std::span<std::byte> code) override {
    if (x.empty()) return;
    write_means(x, code);
    kernels::pack_signs(x, code.data() + header);
  }

  void encode_and_keep(std::span<float> y, const Block&, std::span<std::byte> code) override {
    if (y.empty()) return;
    const auto [negative, other] = write_means(y, code);
    kernels::pack_signs_keep(y, other, negative, code.data() + header);
  }

  void decode(std::span<const std::byte> code, std::span<float> out) const override {
    code::check_size("onebit", code, bytes(static_cast<std::int64_t>(out.size())));
    if (out.empty()) return;
    const float negative = code::read(code, 0), other = code::read(code, sizeof(float));
    code::check_scale("onebit", -negative);
    code::check_scale("onebit", other);
    code::check_padding("onebit", code.subspan(header), out.size());
    kernels::unpack_signs(code.data() + header, other, negative, out);
  }

  std::optional<device::LevelCode> level_code() const override {
    return device::LevelCode{.numbers = device::LevelCode::Numbers::halves};
  }

 private:
  static constexpr std::size_t header = 2 * sizeof(float);

  static std::pair<float, float> write_means(std::span<const float> x, std::span<std::byte> code) {
    const auto sums = kernels::halves(x);
    const auto mean = [](double sum, std::size_t count) {
      return count == 0 ? 0.0F : static_cast<float>(sum / static_cast<double>(count));
    };
    const float negative = mean(sums.negative, sums.negatives);
    const float other = mean(sums.other, x.size() - sums.negatives);
    code::write(code, 0, negative);
    code::write(code, sizeof(float), other);
    return {negative, other};
  }
};

const bool registered = register_quantiser({
    .name = "onebit",
    .summary = "one bit a value: the mean of the negative ones or that of the others, with error feedback",
    .source = "Seide et al., 1-bit stochastic gradient descent, Interspeech 2014",
    .memories = {"residual", "none"},
    .make = [](const Values&, std::span<const std::int64_t>) { return std::make_unique<OneBit>(); },
});

}  // namespace
}  // namespace acp
