// As gram.cpp does it, without widening: blocks of columns are copied side by side, as rows whose distance is
// a power of two would drive each other out of the cache.
#include "compressors/kernels/gram_single.h"

#include <algorithm>
#include <array>

#include "compressors/kernels/simd.h"

namespace acp::kernels {
namespace {

constexpr std::size_t lanes = 8;

std::size_t padded(std::size_t count) {
  return (count + 3) / 4 * 4;
}

double in_order(const double* sums) {
  double sum = 0;
  for (std::size_t i = 0; i < lanes; ++i) sum += sums[i];
  return sum;
}

#ifdef ACP_AVX2
// Columns `from` .. `from` + width of all rows, `stride` apart; behind the end, zeros up to whole vectors.
ACP_AVX2 void pack(const float* rows, Rows size, std::size_t from, std::size_t width, std::size_t stride,
                   float* block) {
  for (std::size_t k = 0; k < size.count; ++k) {
    const float* const row = rows + k * size.length + from;
    float* const to = block + k * stride;
    std::size_t j = 0;
    for (; j + lanes <= width; j += lanes) _mm256_storeu_ps(to + j, _mm256_loadu_ps(row + j));
    if (j == width) continue;
    for (std::size_t i = 0; i < lanes; ++i) to[j + i] = j + i < width ? row[j + i] : 0;
  }
}

ACP_AVX2 void add_widened(__m256 x, double* sums) {
  const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x));
  const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
  _mm256_storeu_pd(sums, _mm256_add_pd(_mm256_loadu_pd(sums), low));
  _mm256_storeu_pd(sums + 4, _mm256_add_pd(_mm256_loadu_pd(sums + 4), high));
}

// Rows a .. a + 3 times rows b and b + 1, added to `sums`: of each pair eight, of each row of a `row` apart.
ACP_AVX2 void products_4x2(const float* a, const float* b, std::size_t width, std::size_t stride,
                           double* sums, std::size_t row) {
  __m256 s[4][2];
#pragma GCC unroll 4
  for (std::size_t k = 0; k < 4; ++k) s[k][0] = s[k][1] = _mm256_setzero_ps();
  for (std::size_t j = 0; j < width; j += lanes) {
    const __m256 first = _mm256_loadu_ps(b + j), second = _mm256_loadu_ps(b + stride + j);
#pragma GCC unroll 4
    for (std::size_t k = 0; k < 4; ++k) {
      const __m256 x = _mm256_loadu_ps(a + k * stride + j);
      s[k][0] = _mm256_add_ps(s[k][0], _mm256_mul_ps(x, first));
      s[k][1] = _mm256_add_ps(s[k][1], _mm256_mul_ps(x, second));
    }
  }
#pragma GCC unroll 4
  for (std::size_t k = 0; k < 4; ++k) {
    add_widened(s[k][0], sums + k * row);
    add_widened(s[k][1], sums + k * row + lanes);
  }
}

ACP_AVX2 void gram_avx2(const float* rows, Rows size, double* products, SingleWorkspace& workspace) {
  const std::size_t all = padded(size.count), stride = single_width(size.count);
  workspace.block.resize(all * stride);
  std::fill(workspace.block.begin() + static_cast<std::ptrdiff_t>(size.count * stride), workspace.block.end(),
            0.0F);
  workspace.sums.assign(all * all * lanes, 0);
  float* const block = workspace.block.data();
  double* const sums = workspace.sums.data();
  for (std::size_t from = 0; from < size.length; from += stride) {
    const std::size_t width = std::min(stride, size.length - from);
    pack(rows, size, from, width, stride, block);
    const std::size_t rounded = (width + lanes - 1) / lanes * lanes;
    for (std::size_t k = 0; k < all; k += 4) {
      for (std::size_t l = 0; l < k + 4; l += 2) {
        products_4x2(block + k * stride, block + l * stride, rounded, stride, sums + (k * all + l) * lanes,
                     all * lanes);
      }
    }
  }
  for (std::size_t k = 0; k < size.count; ++k) {
    for (std::size_t l = 0; l <= k; ++l)
      products[k * size.count + l] = in_order(sums + (k * all + l) * lanes);
  }
}

// Sixteen columns of four new rows out of `terms` old ones; of the new ones, `count` are wanted.
ACP_AVX2 void combine_4x16(const float* block, std::size_t stride, const float* factors, std::size_t all,
                           std::size_t terms, std::size_t count, std::size_t columns, float* out,
                           std::size_t length) {
  __m256 s[4][2];
#pragma GCC unroll 4
  for (std::size_t k = 0; k < 4; ++k) s[k][0] = s[k][1] = _mm256_setzero_ps();
  for (std::size_t l = 0; l < terms; ++l) {
    const __m256 low = _mm256_loadu_ps(block + l * stride),
                 high = _mm256_loadu_ps(block + l * stride + lanes);
#pragma GCC unroll 4
    for (std::size_t k = 0; k < 4; ++k) {
      const __m256 factor = _mm256_set1_ps(factors[k * all + l]);
      s[k][0] = _mm256_add_ps(s[k][0], _mm256_mul_ps(factor, low));
      s[k][1] = _mm256_add_ps(s[k][1], _mm256_mul_ps(factor, high));
    }
  }
  for (std::size_t k = 0; k < count; ++k) {
    if (columns == 2 * lanes) {
      _mm256_storeu_ps(out + k * length, s[k][0]);
      _mm256_storeu_ps(out + k * length + lanes, s[k][1]);
    } else {
      std::array<float, 2 * lanes> some;
      _mm256_storeu_ps(some.data(), s[k][0]);
      _mm256_storeu_ps(some.data() + lanes, s[k][1]);
      std::copy_n(some.begin(), columns, out + k * length);
    }
  }
}

ACP_AVX2 void combine_avx2(const float* rows, Rows size, const double* factors, float* out,
                           SingleWorkspace& workspace) {
  const std::size_t all = padded(size.count), stride = single_width(size.count);
  workspace.block.assign(all * stride + all * all, 0);
  float* const block = workspace.block.data();
  float* const square = block + all * stride;  // the factors, zero above the diagonal and in rows added
  for (std::size_t k = 0; k < size.count; ++k) {
    for (std::size_t l = 0; l <= k; ++l)
      square[k * all + l] = static_cast<float>(factors[k * size.count + l]);
  }
  for (std::size_t from = 0; from < size.length; from += stride) {
    const std::size_t width = std::min(stride, size.length - from);
    pack(rows, size, from, width, stride, block);
    for (std::size_t k = 0; k < size.count; k += 4) {
      const std::size_t count = std::min<std::size_t>(4, size.count - k);
      for (std::size_t j = 0; j < width; j += 2 * lanes) {
        combine_4x16(block + j, stride, square + k * all, all, k + count, count,
                     std::min(2 * lanes, width - j), out + k * size.length + from + j, size.length);
      }
    }
  }
}
#endif

}  // namespace

// 64 KB at most, which the second cache holds, and never less than 16 columns.
std::size_t single_width(std::size_t count) {
  return std::clamp<std::size_t>(16384 / padded(count) / 16 * 16, 16, 512);
}

void gram_single_plain(const float* rows, Rows size, double* products) {
  const std::size_t stride = single_width(size.count);
  for (std::size_t k = 0; k < size.count; ++k) {
    for (std::size_t l = 0; l <= k; ++l) {
      const float *const a = rows + k * size.length, *const b = rows + l * size.length;
      std::array<double, lanes> sums{};
      for (std::size_t from = 0; from < size.length; from += stride) {
        std::array<float, lanes> some{};
        for (std::size_t j = from; j < std::min(from + stride, size.length); ++j) {
          some[(j - from) % lanes] += a[j] * b[j];
        }
        for (std::size_t i = 0; i < lanes; ++i) sums[i] += static_cast<double>(some[i]);
      }
      products[k * size.count + l] = in_order(sums.data());
    }
  }
}

void combine_single_plain(const float* rows, Rows size, const double* factors, float* out) {
  for (std::size_t k = 0; k < size.count; ++k) {
    for (std::size_t j = 0; j < size.length; ++j) {
      float sum = 0;
      for (std::size_t l = 0; l <= k; ++l) {
        sum += static_cast<float>(factors[k * size.count + l]) * rows[l * size.length + j];
      }
      out[k * size.length + j] = sum;
    }
  }
}

void gram_single(const float* rows, Rows size, double* products,
                 [[maybe_unused]] SingleWorkspace& workspace) {
#ifdef ACP_AVX2
  if (has_avx2()) return gram_avx2(rows, size, products, workspace);
#endif
  gram_single_plain(rows, size, products);
}

void combine_single(const float* rows, Rows size, const double* factors, float* out,
                    [[maybe_unused]] SingleWorkspace& workspace) {
#ifdef ACP_AVX2
  if (has_avx2()) return combine_avx2(rows, size, factors, out, workspace);
#endif
  combine_single_plain(rows, size, factors, out);
}

}  // namespace acp::kernels
