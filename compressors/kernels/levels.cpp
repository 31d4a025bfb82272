// The arithmetic of one element, and the same on 32 at a time.
#include "compressors/kernels/levels.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "compressors/kernels/level_arithmetic.h"
#include "compressors/kernels/simd.h"

namespace acp::kernels {
namespace {

// `level` >= 0, perhaps infinite; the result is at most `top`.
int rounded(float level, float top, Words words, std::size_t i) {
  return words.empty() ? to_nearest(level, top) : to_either(level, top, words[i]);
}

Words from(Words words, std::size_t first) {
  return words.empty() ? words : words.subspan(first);
}

}  // namespace

void range_levels_plain(std::span<const float> x, float min, float unit, int top, Words words,
                        std::uint8_t* levels) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    levels[i] = static_cast<std::uint8_t>(rounded((x[i] - min) / unit, static_cast<float>(top), words, i));
  }
}

void range_values_plain(const std::uint8_t* levels, float min, float unit, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = range_value(levels[i], min, unit);
  }
}

void signed_levels_plain(std::span<const float> x, float norm, int top, Words words, std::uint8_t* levels) {
  const auto limit = static_cast<float>(top);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const int level = rounded(std::abs(x[i]) / norm * limit, limit, words, i);
    levels[i] = static_cast<std::uint8_t>(x[i] < 0 ? top - level : top + level);
  }
}

void signed_values_plain(const std::uint8_t* levels, float norm, int top, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = signed_value(levels[i], norm, top);
  }
}

void signed_levels_wide(std::span<const float> x, float norm, int top, Words words, std::int16_t* levels) {
  const auto limit = static_cast<float>(top);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const int level = rounded(std::abs(x[i]) / norm * limit, limit, words, i);
    levels[i] = static_cast<std::int16_t>(x[i] < 0 ? -level : level);
  }
}

void ternary_levels_plain(std::span<const float> x, float scale, Words words, std::uint8_t* levels) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool sent = draw(words[i]) < std::abs(x[i]) / scale * draws;
    levels[i] = static_cast<std::uint8_t>(sent ? (x[i] < 0 ? 2 : 1) : 0);
  }
}

void ternary_values_plain(const std::uint8_t* levels, float scale, std::span<float> out) {
  const float values[] = {0, scale, -scale};
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = values[levels[i]];
}

#ifdef ACP_AVX2
namespace {

ACP_AVX2 inline __m256 draw(const std::uint32_t* words) {
  const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
  return _mm256_cvtepi32_ps(_mm256_srli_epi32(v, 8));
}

ACP_AVX2 inline __m256 magnitude(__m256 x) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x);
}

// As the one above, of 8 elements.
ACP_AVX2 inline __m256i rounded(__m256 level, __m256 top, const std::uint32_t* words) {
  if (words == nullptr) {
    return _mm256_cvttps_epi32(_mm256_min_ps(_mm256_add_ps(level, _mm256_set1_ps(0.5F)), top));
  }
  level = _mm256_min_ps(level, top);
  const __m256i whole = _mm256_cvttps_epi32(level);
  const __m256 rest = _mm256_mul_ps(_mm256_sub_ps(level, _mm256_cvtepi32_ps(whole)), _mm256_set1_ps(draws));
  const __m256 up = _mm256_cmp_ps(draw(words), rest, _CMP_LT_OQ);
  return _mm256_sub_epi32(whole, _mm256_castps_si256(up));  // a true comparison is -1
}

// All of these do whole groups and return how many elements that is.
ACP_AVX2 std::size_t range_levels_avx2(std::span<const float> x, float min, float unit, int top,
                                       const std::uint32_t* words, std::uint8_t* levels) {
  const std::size_t whole = x.size() / 32 * 32;
  const __m256 origin = _mm256_set1_ps(min), step = _mm256_set1_ps(unit),
               limit = _mm256_set1_ps(static_cast<float>(top));
  for (std::size_t i = 0; i < whole; i += 32) {
    __m256i v[4];
    for (std::size_t k = 0; k < 4; ++k) {
      const __m256 offset = _mm256_sub_ps(_mm256_loadu_ps(x.data() + i + 8 * k), origin);
      v[k] = rounded(_mm256_div_ps(offset, step), limit, words == nullptr ? nullptr : words + i + 8 * k);
    }
    store_bytes(v, levels + i);
  }
  return whole;
}

ACP_AVX2 std::size_t range_values_avx2(const std::uint8_t* levels, float min, float unit,
                                       std::span<float> out) {
  const std::size_t whole = out.size() / 8 * 8;
  const __m256 origin = _mm256_set1_ps(min), step = _mm256_set1_ps(unit);
  for (std::size_t i = 0; i < whole; i += 8) {
    const __m256 level = _mm256_cvtepi32_ps(load_bytes(levels + i));
    _mm256_storeu_ps(out.data() + i, _mm256_add_ps(origin, _mm256_mul_ps(step, level)));
  }
  return whole;
}

ACP_AVX2 std::size_t signed_levels_avx2(std::span<const float> x, float norm, int top,
                                        const std::uint32_t* words, std::uint8_t* levels) {
  const std::size_t whole = x.size() / 32 * 32;
  const __m256 divisor = _mm256_set1_ps(norm), limit = _mm256_set1_ps(static_cast<float>(top));
  const __m256i centre = _mm256_set1_epi32(top);
  for (std::size_t i = 0; i < whole; i += 32) {
    __m256i v[4];
    for (std::size_t k = 0; k < 4; ++k) {
      const __m256 value = _mm256_loadu_ps(x.data() + i + 8 * k);
      const __m256 scaled = _mm256_mul_ps(_mm256_div_ps(magnitude(value), divisor), limit);
      const __m256i level = rounded(scaled, limit, words == nullptr ? nullptr : words + i + 8 * k);
      const __m256i sign = _mm256_or_si256(_mm256_castps_si256(value), _mm256_set1_epi32(1));
      v[k] = _mm256_add_epi32(centre, _mm256_sign_epi32(level, sign));  // of level 0 the sign does nothing
    }
    store_bytes(v, levels + i);
  }
  return whole;
}

ACP_AVX2 std::size_t signed_values_avx2(const std::uint8_t* levels, float norm, int top,
                                        std::span<float> out) {
  const std::size_t whole = out.size() / 8 * 8;
  const __m256 factor = _mm256_set1_ps(norm), limit = _mm256_set1_ps(static_cast<float>(top));
  const __m256i centre = _mm256_set1_epi32(top);
  for (std::size_t i = 0; i < whole; i += 8) {
    const __m256 level = _mm256_cvtepi32_ps(_mm256_sub_epi32(load_bytes(levels + i), centre));
    _mm256_storeu_ps(out.data() + i, _mm256_mul_ps(_mm256_div_ps(level, limit), factor));
  }
  return whole;
}

ACP_AVX2 std::size_t ternary_levels_avx2(std::span<const float> x, float scale, const std::uint32_t* words,
                                         std::uint8_t* levels) {
  const std::size_t whole = x.size() / 32 * 32;
  const __m256 divisor = _mm256_set1_ps(scale), many = _mm256_set1_ps(draws), zero = _mm256_setzero_ps();
  const __m256i one = _mm256_set1_epi32(1);
  for (std::size_t i = 0; i < whole; i += 32) {
    __m256i v[4];
    for (std::size_t k = 0; k < 4; ++k) {
      const __m256 value = _mm256_loadu_ps(x.data() + i + 8 * k);
      const __m256 chance = _mm256_mul_ps(_mm256_div_ps(magnitude(value), divisor), many);
      const __m256 sent = _mm256_cmp_ps(draw(words + i + 8 * k), chance, _CMP_LT_OQ);
      const __m256 below = _mm256_cmp_ps(value, zero, _CMP_LT_OQ);
      const __m256i code = _mm256_sub_epi32(one, _mm256_castps_si256(below));
      v[k] = _mm256_and_si256(_mm256_castps_si256(sent), code);
    }
    store_bytes(v, levels + i);
  }
  return whole;
}

ACP_AVX2 std::size_t ternary_values_avx2(const std::uint8_t* levels, float scale, std::span<float> out) {
  const std::size_t whole = out.size() / 8 * 8;
  const __m256 values = _mm256_setr_ps(0, scale, -scale, 0, 0, scale, -scale, 0);
  for (std::size_t i = 0; i < whole; i += 8) {
    _mm256_storeu_ps(out.data() + i, _mm256_permutevar_ps(values, load_bytes(levels + i)));
  }
  return whole;
}

}  // namespace
#endif

void range_levels(std::span<const float> x, float min, float unit, int top, Words words,
                  std::uint8_t* levels) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = range_levels_avx2(x, min, unit, top, words.data(), levels);
#endif
  range_levels_plain(x.subspan(done), min, unit, top, from(words, done), levels + done);
}

void range_values(const std::uint8_t* levels, float min, float unit, std::span<float> out) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = range_values_avx2(levels, min, unit, out);
#endif
  range_values_plain(levels + done, min, unit, out.subspan(done));
}

void signed_levels(std::span<const float> x, float norm, int top, Words words, std::uint8_t* levels) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = signed_levels_avx2(x, norm, top, words.data(), levels);
#endif
  signed_levels_plain(x.subspan(done), norm, top, from(words, done), levels + done);
}

void signed_values(const std::uint8_t* levels, float norm, int top, std::span<float> out) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = signed_values_avx2(levels, norm, top, out);
#endif
  signed_values_plain(levels + done, norm, top, out.subspan(done));
}

void ternary_levels(std::span<const float> x, float scale, Words words, std::uint8_t* levels) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = ternary_levels_avx2(x, scale, words.data(), levels);
#endif
  ternary_levels_plain(x.subspan(done), scale, from(words, done), levels + done);
}

void ternary_values(const std::uint8_t* levels, float scale, std::span<float> out) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = ternary_values_avx2(levels, scale, out);
#endif
  ternary_values_plain(levels + done, scale, out.subspan(done));
}

}  // namespace acp::kernels
