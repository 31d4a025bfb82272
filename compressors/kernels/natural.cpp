// Whole-number arithmetic on the bits of floats; the compiler makes vector code of it for each instruction
// set.
#include "compressors/kernels/natural.h"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "compressors/kernels/simd.h"

namespace acp::kernels {
namespace {

std::uint32_t bits_of(float x) {
  return std::bit_cast<std::uint32_t>(x);
}

int rounded_exponent(std::uint32_t bits, std::uint32_t draw) {
  return static_cast<int>(bits >> 23U & 0xffU) + static_cast<int>((bits & 0x7fffffU) > draw);
}

std::uint8_t code(float x, int lowest, std::uint32_t keep_sign, std::uint32_t draw) {
  const std::uint32_t bits = bits_of(x);
  const auto level = static_cast<std::uint32_t>(std::clamp(rounded_exponent(bits, draw) - lowest, 0, 127));
  const std::uint32_t sign = (bits >> 24U & 0x80U) & (level != 0 ? ~0U : keep_sign);
  return static_cast<std::uint8_t>(level | sign);
}

void codes_loop(std::span<const float> x, std::size_t first, int lowest, bool signed_zero, const Draws& draws,
                std::uint8_t* codes) {
  const std::uint32_t keep_sign = signed_zero ? ~0U : 0U;
  if (draws.words.empty()) {
    for (std::size_t i = first; i < x.size(); ++i) codes[i] = code(x[i], lowest, keep_sign, draws.fixed);
  } else {
    for (std::size_t i = first; i < x.size(); ++i) {
      codes[i] = code(x[i], lowest, keep_sign, draws.words[i] >> 9U);
    }
  }
}

void values_loop(const std::uint8_t* codes, int lowest, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint32_t level = codes[i] & 0x7fU, sign = static_cast<std::uint32_t>(codes[i] & 0x80U) << 24U;
    const std::uint32_t bits = (level + static_cast<std::uint32_t>(lowest)) << 23U | sign;
    out[i] = std::bit_cast<float>(level == 0 ? 0U : bits);
  }
}

std::uint8_t exponent(float x, std::uint32_t draw) {
  const std::uint32_t bits = bits_of(x);
  const int rounded = std::min(rounded_exponent(bits, draw), 254);
  return static_cast<std::uint8_t>((bits & 0x7f800000U) == 0 ? 0 : rounded);
}

void exponents_loop(std::span<const float> x, std::size_t first, const Draws& draws,
                    std::uint8_t* exponents) {
  if (draws.words.empty()) {
    for (std::size_t i = first; i < x.size(); ++i) exponents[i] = exponent(x[i], draws.fixed);
  } else {
    for (std::size_t i = first; i < x.size(); ++i) exponents[i] = exponent(x[i], draws.words[i] >> 9U);
  }
}

#ifdef ACP_AVX2
ACP_AVX2 inline __m256i bits_of(const float* x) {
  return _mm256_castps_si256(_mm256_loadu_ps(x));
}

ACP_AVX2 inline __m256i draws_of(const Draws& draws, std::size_t i) {
  if (draws.words.empty()) return _mm256_set1_epi32(static_cast<int>(draws.fixed));
  const auto* const at = reinterpret_cast<const __m256i*>(draws.words.data() + i);
  return _mm256_srli_epi32(_mm256_loadu_si256(at), 9);
}

ACP_AVX2 inline __m256i rounded_exponent(__m256i bits, __m256i draw) {
  const __m256i exponent = _mm256_and_si256(_mm256_srli_epi32(bits, 23), _mm256_set1_epi32(0xff));
  const __m256i up = _mm256_cmpgt_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x7fffff)), draw);
  return _mm256_sub_epi32(exponent, up);  // a true comparison is -1
}

// These do whole groups of 32 and return how many elements that is.
ACP_AVX2 std::size_t codes_avx2(std::span<const float> x, int lowest, bool signed_zero, const Draws& draws,
                                std::uint8_t* codes) {
  const std::size_t whole = x.size() / 32 * 32;
  const __m256i zero = _mm256_setzero_si256(), keep_sign = _mm256_set1_epi32(signed_zero ? -1 : 0);
  for (std::size_t i = 0; i < whole; i += 32) {
    __m256i v[4];
    for (std::size_t k = 0; k < 4; ++k) {
      const __m256i bits = bits_of(x.data() + i + 8 * k);
      __m256i level = rounded_exponent(bits, draws_of(draws, i + 8 * k));
      level = _mm256_max_epi32(_mm256_sub_epi32(level, _mm256_set1_epi32(lowest)), zero);
      level = _mm256_min_epi32(level, _mm256_set1_epi32(127));
      const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
      const __m256i keep = _mm256_or_si256(_mm256_cmpgt_epi32(level, zero), keep_sign);
      v[k] = _mm256_or_si256(level, _mm256_and_si256(sign, keep));
    }
    store_bytes(v, codes + i);
  }
  return whole;
}

ACP_AVX2 std::size_t values_avx2(const std::uint8_t* codes, int lowest, std::span<float> out) {
  const std::size_t whole = out.size() / 8 * 8;
  for (std::size_t i = 0; i < whole; i += 8) {
    const __m256i code = load_bytes(codes + i);
    const __m256i level = _mm256_and_si256(code, _mm256_set1_epi32(0x7f));
    const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(code, _mm256_set1_epi32(0x80)), 24);
    const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(level, _mm256_set1_epi32(lowest)), 23);
    const __m256i some = _mm256_cmpgt_epi32(level, _mm256_setzero_si256());
    const __m256i value = _mm256_and_si256(_mm256_or_si256(bits, sign), some);
    _mm256_storeu_ps(out.data() + i, _mm256_castsi256_ps(value));
  }
  return whole;
}

ACP_AVX2 std::size_t exponents_avx2(std::span<const float> x, const Draws& draws, std::uint8_t* exponents) {
  const std::size_t whole = x.size() / 32 * 32;
  const __m256i field = _mm256_set1_epi32(0x7f800000), zero = _mm256_setzero_si256();
  for (std::size_t i = 0; i < whole; i += 32) {
    __m256i v[4];
    for (std::size_t k = 0; k < 4; ++k) {
      const __m256i bits = bits_of(x.data() + i + 8 * k);
      const __m256i rounded = rounded_exponent(bits, draws_of(draws, i + 8 * k));
      const __m256i subnormal = _mm256_cmpeq_epi32(_mm256_and_si256(bits, field), zero);
      v[k] = _mm256_andnot_si256(subnormal, _mm256_min_epi32(rounded, _mm256_set1_epi32(254)));
    }
    store_bytes(v, exponents + i);
  }
  return whole;
}
#endif

}  // namespace

void natural_codes_plain(std::span<const float> x, int lowest, bool signed_zero, const Draws& draws,
                         std::uint8_t* codes) {
  codes_loop(x, 0, lowest, signed_zero, draws, codes);
}

void natural_values_plain(const std::uint8_t* codes, int lowest, std::span<float> out) {
  values_loop(codes, lowest, out);
}

void natural_exponents_plain(std::span<const float> x, const Draws& draws, std::uint8_t* exponents) {
  exponents_loop(x, 0, draws, exponents);
}

void natural_codes(std::span<const float> x, int lowest, bool signed_zero, const Draws& draws,
                   std::uint8_t* codes) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = codes_avx2(x, lowest, signed_zero, draws, codes);
#endif
  codes_loop(x, done, lowest, signed_zero, draws, codes);
}

void natural_values(const std::uint8_t* codes, int lowest, std::span<float> out) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = values_avx2(codes, lowest, out);
#endif
  values_loop(codes + done, lowest, out.subspan(done));
}

void natural_exponents(std::span<const float> x, const Draws& draws, std::uint8_t* exponents) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = exponents_avx2(x, draws, exponents);
#endif
  exponents_loop(x, done, draws, exponents);
}

}  // namespace acp::kernels
