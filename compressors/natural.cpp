// `natural`: sign and power of two of each value, rounded at random with the right mean.
#include "compressors/kernels/natural.h"

#include <algorithm>
#include <array>
#include <bit>

#include "compressors/code.h"
#include "compressors/coded_method.h"
#include "compressors/kernels/pack.h"
#include "compressors/kernels/random.h"

namespace acp {
namespace {

constexpr std::size_t stretch = 2048;  // values whose random words stay in the first cache
const std::vector<std::string> modes{"cuda", "array", "nine"}, roundings{"stochastic", "nearest"};

class Natural : public Quantiser {
 public:
  explicit Natural(const Values& values)
      : stochastic_(values.choice("rounding", roundings) == "stochastic") {}

 protected:
  // work(place of the first value, values, draws), stretch by stretch
  template <class Work>
  void each_stretch(std::span<const float> x, const Block& block, const Work& work) const {
    const auto key = block.own(Purpose::round).key();
    std::array<std::uint32_t, stretch> words;
    for (std::size_t from = 0; from < x.size(); from += stretch) {
      const auto part = x.subspan(from, std::min(stretch, x.size() - from));
      kernels::Draws draws;
      if (stochastic_) {
        kernels::random_words(key, from, std::span(words).first(part.size()));
        draws.words = std::span(words).first(part.size());
      }
      work(from, part, draws);
    }
  }

 private:
  bool stochastic_;
};

// Code: a byte a value.
class EightBits final : public Natural {
 public:
  EightBits(const Values& values, bool array) : Natural(values), array_(array) {}

  std::size_t bytes(std::int64_t n) const override { return static_cast<std::size_t>(n); }

  void encode(std::span<const float> x, const Block& block, std::span<std::byte> code) override {
    auto* const codes = reinterpret_cast<std::uint8_t*>(code.data());
    each_stretch(x, block, [&](std::size_t from, std::span<const float> part, const kernels::Draws& draws) {
      kernels::natural_codes(part, lowest(), array_, draws, codes + from);
    });
  }

  void encode_and_keep(std::span<float> y, const Block& block, std::span<std::byte> code) override {
    auto* const codes = reinterpret_cast<std::uint8_t*>(code.data());
    std::array<float, stretch> decoded{};
    each_stretch(y, block, [&](std::size_t from, std::span<const float> part, const kernels::Draws& draws) {
      kernels::natural_codes(part, lowest(), array_, draws, codes + from);
      kernels::natural_values(codes + from, lowest(), std::span(decoded).first(part.size()));
      for (std::size_t i = 0; i < part.size(); ++i) y[from + i] -= decoded[i];
    });
  }

  void decode(std::span<const std::byte> code, std::span<float> out) const override {
    code::check_size("natural", code, out.size());
    kernels::natural_values(reinterpret_cast<const std::uint8_t*>(code.data()), lowest(), out);
  }

 private:
  int lowest() const { return array_ ? 18 : 17; }

  bool array_;
};

// Code: the exponent of each value, a byte, then its sign, a bit (1 = not negative).
class NineBits final : public Natural {
 public:
  using Natural::Natural;

  std::size_t bytes(std::int64_t n) const override {
    return static_cast<std::size_t>(n) + kernels::packed_bytes(static_cast<std::size_t>(n), 1);
  }

  void encode(std::span<const float> x, const Block& block, std::span<std::byte> code) override {
    auto* const exponents = reinterpret_cast<std::uint8_t*>(code.data());
    each_stretch(x, block, [&](std::size_t from, std::span<const float> part, const kernels::Draws& draws) {
      kernels::natural_exponents(part, draws, exponents + from);
    });
    // The sign of -0 too, as the bits have it.
    const auto signs = code.subspan(x.size());
    std::ranges::fill(signs, std::byte{0});
    for (std::size_t i = 0; i < x.size(); ++i) {
      signs[i / 8] |= std::byte((~std::bit_cast<std::uint32_t>(x[i]) >> 31U) << (i % 8));
    }
  }

  void decode(std::span<const std::byte> code, std::span<float> out) const override {
    code::check_size("natural", code, bytes(static_cast<std::int64_t>(out.size())));
    code::check_padding("natural", code.subspan(out.size()), out.size());
    kernels::unpack_signs(code.data() + out.size(), 1, -1, out);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto exponent = std::to_integer<std::uint32_t>(code[i]);
      if (exponent == 255) code::refuse_level("natural", 255, 254);
      out[i] *= std::bit_cast<float>(exponent << 23U);
    }
  }
};

const bool registered = register_quantiser({
    .name = "natural",
    .summary = "sign and power of two of each value, unbiased",
    .source = "Horvath et al., Natural compression for distributed deep learning, 2019, definition 1",
    .keys = {{"mode", "cuda",
              "cuda: 8 bits, 2^-109 to 2^17; array: 8 bits, 2^-108 to 2^18; nine: 9 bits, all exponents"},
             {"rounding", "stochastic", "stochastic (unbiased), or nearest with ties down"}},
    .make = [](const Values& values, std::span<const std::int64_t>) -> std::unique_ptr<Quantiser> {
      const auto mode = values.choice("mode", modes);
      if (mode == "nine") return std::make_unique<NineBits>(values);
      return std::make_unique<EightBits>(values, mode == "array");
    },
});

}  // namespace
}  // namespace acp
