// Whole-number arithmetic on the bits of floats; the compiler makes vector code of it for each instruction
// set.
#include "compressors/kernels/natural.h"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "compressors/kernels/simd.h"

namespace acp::kernels {
namespace {

[[gnu::always_inline]] inline std::uint32_t bits_of(float x) {
  return std::bit_cast<std::uint32_t>(x);
}

[[gnu::always_inline]] inline int rounded_exponent(std::uint32_t bits, std::uint32_t draw) {
  return static_cast<int>(bits >> 23U & 0xffU) + static_cast<int>((bits & 0x7fffffU) > draw);
}

[[gnu::always_inline]] inline std::uint8_t code(float x, int lowest, std::uint32_t keep_sign,
                                                std::uint32_t draw) {
  const std::uint32_t bits = bits_of(x);
  const auto level = static_cast<std::uint32_t>(std::clamp(rounded_exponent(bits, draw) - lowest, 0, 127));
  const std::uint32_t sign = (bits >> 24U & 0x80U) & (level != 0 ? ~0U : keep_sign);
  return static_cast<std::uint8_t>(level | sign);
}

[[gnu::always_inline]] inline void codes_loop(std::span<const float> x, int lowest, bool signed_zero,
                                              const Draws& draws, std::uint8_t* codes) {
  const std::uint32_t keep_sign = signed_zero ? ~0U : 0U;
  if (draws.words.empty()) {
    for (std::size_t i = 0; i < x.size(); ++i) codes[i] = code(x[i], lowest, keep_sign, draws.fixed);
  } else {
    for (std::size_t i = 0; i < x.size(); ++i) {
      codes[i] = code(x[i], lowest, keep_sign, draws.words[i] >> 9U);
    }
  }
}

[[gnu::always_inline]] inline void values_loop(const std::uint8_t* codes, int lowest, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint32_t level = codes[i] & 0x7fU, sign = static_cast<std::uint32_t>(codes[i] & 0x80U) << 24U;
    const std::uint32_t bits = (level + static_cast<std::uint32_t>(lowest)) << 23U | sign;
    out[i] = std::bit_cast<float>(level == 0 ? 0U : bits);
  }
}

[[gnu::always_inline]] inline std::uint8_t exponent(float x, std::uint32_t draw) {
  const std::uint32_t bits = bits_of(x);
  const int rounded = std::min(rounded_exponent(bits, draw), 254);
  return static_cast<std::uint8_t>((bits & 0x7f800000U) == 0 ? 0 : rounded);
}

[[gnu::always_inline]] inline void exponents_loop(std::span<const float> x, const Draws& draws,
                                                  std::uint8_t* exponents) {
  if (draws.words.empty()) {
    for (std::size_t i = 0; i < x.size(); ++i) exponents[i] = exponent(x[i], draws.fixed);
  } else {
    for (std::size_t i = 0; i < x.size(); ++i) exponents[i] = exponent(x[i], draws.words[i] >> 9U);
  }
}

#ifdef ACP_AVX2
ACP_AVX2 void codes_avx2(std::span<const float> x, int lowest, bool signed_zero, const Draws& draws,
                         std::uint8_t* codes) {
  codes_loop(x, lowest, signed_zero, draws, codes);
}
ACP_AVX2 void values_avx2(const std::uint8_t* codes, int lowest, std::span<float> out) {
  values_loop(codes, lowest, out);
}
ACP_AVX2 void exponents_avx2(std::span<const float> x, const Draws& draws, std::uint8_t* exponents) {
  exponents_loop(x, draws, exponents);
}
#endif

}  // namespace

void natural_codes_plain(std::span<const float> x, int lowest, bool signed_zero, const Draws& draws,
                         std::uint8_t* codes) {
  codes_loop(x, lowest, signed_zero, draws, codes);
}

void natural_values_plain(const std::uint8_t* codes, int lowest, std::span<float> out) {
  values_loop(codes, lowest, out);
}

void natural_exponents_plain(std::span<const float> x, const Draws& draws, std::uint8_t* exponents) {
  exponents_loop(x, draws, exponents);
}

void natural_codes(std::span<const float> x, int lowest, bool signed_zero, const Draws& draws,
                   std::uint8_t* codes) {
#ifdef ACP_AVX2
  if (has_avx2()) return codes_avx2(x, lowest, signed_zero, draws, codes);
#endif
  natural_codes_plain(x, lowest, signed_zero, draws, codes);
}

void natural_values(const std::uint8_t* codes, int lowest, std::span<float> out) {
#ifdef ACP_AVX2
  if (has_avx2()) return values_avx2(codes, lowest, out);
#endif
  natural_values_plain(codes, lowest, out);
}

void natural_exponents(std::span<const float> x, const Draws& draws, std::uint8_t* exponents) {
#ifdef ACP_AVX2
  if (has_avx2()) return exponents_avx2(x, draws, exponents);
#endif
  natural_exponents_plain(x, draws, exponents);
}

}  // namespace acp::kernels
