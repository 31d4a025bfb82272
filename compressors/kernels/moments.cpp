// One loop a sum: eight lanes in the plain form, two registers of four doubles in the other.
#include "compressors/kernels/moments.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "compressors/kernels/simd.h"

namespace acp::kernels {
namespace {

using Lanes = std::array<double, 8>;

double total(const Lanes& lanes) {
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

// Continues where another form stopped, at a multiple of 8.
double finish_abs(std::span<const float> x, Lanes lanes) {
  for (std::size_t i = 0; i < x.size(); ++i) lanes[i % 8] += std::abs(static_cast<double>(x[i]));
  return total(lanes);
}

double finish_sq(std::span<const float> x, Lanes lanes) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    lanes[i % 8] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return total(lanes);
}

Halves finish_halves(std::span<const float> x, Lanes negative, Lanes other, std::size_t count) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool below = x[i] < 0;
    negative[i % 8] += below ? static_cast<double>(x[i]) : 0;
    other[i % 8] += below ? 0 : static_cast<double>(x[i]);
    count += below;
  }
  return {total(negative), total(other), count};
}

Moments finish_moments(std::span<const float> x, float origin, Lanes sum, Lanes squares, float largest) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double d = static_cast<double>(x[i]) - static_cast<double>(origin);
    sum[i % 8] += d;
    squares[i % 8] += d * d;
    largest = std::max(largest, std::abs(x[i]));
  }
  return {total(sum), total(squares), largest};
}

float finish_largest(std::span<const float> x, float largest) {
  for (const float value : x) largest = std::max(largest, std::abs(value));
  return largest;
}

Range finish_range(std::span<const float> x, Range range) {
  for (const float value : x) {
    range.min = std::min(range.min, value);
    range.max = std::max(range.max, value);
  }
  return {range.min + 0.0F, range.max + 0.0F};  // which of 0 and -0 is taken depends on the form
}

#ifdef ACP_AVX2
// Lanes 0-3 and 4-7.
struct Sums {
  __m256d low, high;
};

ACP_AVX2 inline Sums zeros() {
  return {_mm256_setzero_pd(), _mm256_setzero_pd()};
}

ACP_AVX2 inline Sums widen(__m256 x) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}

ACP_AVX2 inline void add(Sums& sums, const Sums& more) {
  sums.low = _mm256_add_pd(sums.low, more.low);
  sums.high = _mm256_add_pd(sums.high, more.high);
}

ACP_AVX2 inline Sums square(const Sums& x) {
  return {_mm256_mul_pd(x.low, x.low), _mm256_mul_pd(x.high, x.high)};
}

ACP_AVX2 inline Lanes lanes(const Sums& sums) {
  Lanes result;
  _mm256_storeu_pd(result.data(), sums.low);
  _mm256_storeu_pd(result.data() + 4, sums.high);
  return result;
}

ACP_AVX2 inline __m256 magnitude(__m256 x) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x);
}

ACP_AVX2 inline float fold(__m256 x, bool max) {
  std::array<float, 8> values;
  _mm256_storeu_ps(values.data(), x);
  return max ? *std::ranges::max_element(values) : *std::ranges::min_element(values);
}

ACP_AVX2 double sum_abs_avx2(std::span<const float> x) {
  const std::size_t whole = x.size() / 8 * 8;
  Sums sums = zeros();
  for (std::size_t i = 0; i < whole; i += 8) add(sums, widen(magnitude(_mm256_loadu_ps(x.data() + i))));
  return finish_abs(x.subspan(whole), lanes(sums));
}

ACP_AVX2 double sum_sq_avx2(std::span<const float> x) {
  const std::size_t whole = x.size() / 8 * 8;
  Sums sums = zeros();
  for (std::size_t i = 0; i < whole; i += 8) add(sums, square(widen(_mm256_loadu_ps(x.data() + i))));
  return finish_sq(x.subspan(whole), lanes(sums));
}

ACP_AVX2 Halves halves_avx2(std::span<const float> x) {
  const std::size_t whole = x.size() / 8 * 8;
  Sums negative = zeros(), other = zeros();
  std::size_t count = 0;
  for (std::size_t i = 0; i < whole; i += 8) {
    const __m256 v = _mm256_loadu_ps(x.data() + i);
    const __m256 below = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ);
    add(negative, widen(_mm256_and_ps(below, v)));
    add(other, widen(_mm256_andnot_ps(below, v)));
    count += static_cast<std::size_t>(__builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(below))));
  }
  return finish_halves(x.subspan(whole), lanes(negative), lanes(other), count);
}

ACP_AVX2 Moments moments_avx2(std::span<const float> x) {
  const std::size_t whole = x.size() / 8 * 8;
  const __m256d origin = _mm256_set1_pd(static_cast<double>(x[0]));
  Sums sum = zeros(), squares = zeros();
  __m256 largest = _mm256_setzero_ps();
  for (std::size_t i = 0; i < whole; i += 8) {
    const __m256 v = _mm256_loadu_ps(x.data() + i);
    largest = _mm256_max_ps(largest, magnitude(v));
    Sums d = widen(v);
    d = {_mm256_sub_pd(d.low, origin), _mm256_sub_pd(d.high, origin)};
    add(sum, d);
    add(squares, square(d));
  }
  return finish_moments(x.subspan(whole), x[0], lanes(sum), lanes(squares), fold(largest, true));
}

ACP_AVX2 float largest_abs_avx2(std::span<const float> x) {
  const std::size_t whole = x.size() / 8 * 8;
  __m256 largest = _mm256_setzero_ps();
  for (std::size_t i = 0; i < whole; i += 8) {
    largest = _mm256_max_ps(largest, magnitude(_mm256_loadu_ps(x.data() + i)));
  }
  return finish_largest(x.subspan(whole), fold(largest, true));
}

ACP_AVX2 Range range_avx2(std::span<const float> x) {
  const std::size_t whole = x.size() / 8 * 8;
  __m256 least = _mm256_set1_ps(x[0]), largest = least;
  for (std::size_t i = 0; i < whole; i += 8) {
    const __m256 v = _mm256_loadu_ps(x.data() + i);
    least = _mm256_min_ps(least, v);
    largest = _mm256_max_ps(largest, v);
  }
  return finish_range(x.subspan(whole), {fold(least, false), fold(largest, true)});
}
#endif

}  // namespace

double sum_abs_plain(std::span<const float> x) {
  return finish_abs(x, {});
}
double sum_sq_plain(std::span<const float> x) {
  return finish_sq(x, {});
}
Halves halves_plain(std::span<const float> x) {
  return finish_halves(x, {}, {}, 0);
}
Moments moments_plain(std::span<const float> x) {
  return x.empty() ? Moments{} : finish_moments(x, x[0], {}, {}, 0);
}
float largest_abs_plain(std::span<const float> x) {
  return finish_largest(x, 0);
}
Range range_plain(std::span<const float> x) {
  return x.empty() ? Range{} : finish_range(x, {x[0], x[0]});
}

double sum_abs(std::span<const float> x) {
#ifdef ACP_AVX2
  if (has_avx2()) return sum_abs_avx2(x);
#endif
  return sum_abs_plain(x);
}

double sum_sq(std::span<const float> x) {
#ifdef ACP_AVX2
  if (has_avx2()) return sum_sq_avx2(x);
#endif
  return sum_sq_plain(x);
}

Halves halves(std::span<const float> x) {
#ifdef ACP_AVX2
  if (has_avx2()) return halves_avx2(x);
#endif
  return halves_plain(x);
}

Moments moments(std::span<const float> x) {
#ifdef ACP_AVX2
  if (has_avx2() && !x.empty()) return moments_avx2(x);
#endif
  return moments_plain(x);
}

float largest_abs(std::span<const float> x) {
#ifdef ACP_AVX2
  if (has_avx2()) return largest_abs_avx2(x);
#endif
  return largest_abs_plain(x);
}

Range range(std::span<const float> x) {
#ifdef ACP_AVX2
  if (has_avx2() && !x.empty()) return range_avx2(x);
#endif
  return range_plain(x);
}

}  // namespace acp::kernels
