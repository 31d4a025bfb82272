// Columns are widened block by block into a workspace in which four rows at a time meet two others, or eight
// columns: sums stay in registers and the block in the first cache.
#include "compressors/kernels/gram.h"

#include <algorithm>
#include <array>

#include "compressors/kernels/simd.h"

namespace acp::kernels {
namespace {

constexpr std::size_t lanes = 4, cache = 2048;  // doubles of a block

#ifdef ACP_AVX2
std::size_t padded(std::size_t count) {
  return (count + 3) / 4 * 4;
}

// Columns of a block: a multiple of 8.
std::size_t block_width(std::size_t count) {
  return std::max<std::size_t>(8, cache / padded(count) / 8 * 8);
}

// Columns `from` .. `from` + width of all rows as doubles, `stride` apart; behind the end, zeros.
ACP_AVX2 void widen(const float* rows, Rows size, std::size_t from, std::size_t width, std::size_t stride,
                    double* block) {
  for (std::size_t k = 0; k < size.count; ++k) {
    const float* const row = rows + k * size.length + from;
    double* const to = block + k * stride;
    std::size_t j = 0;
    for (; j + 4 <= width; j += 4) _mm256_storeu_pd(to + j, _mm256_cvtps_pd(_mm_loadu_ps(row + j)));
    for (; j < width; ++j) to[j] = static_cast<double>(row[j]);
    std::fill(to + width, to + stride, 0.0);
  }
}

// Rows a .. a + 3 times rows b and b + 1, continuing `sums`, which hold four numbers each.
ACP_AVX2 void products_4x2(const double* a, const double* b, std::size_t width, std::size_t stride,
                           double* const* sums) {
  __m256d s[4][2];
#pragma GCC unroll 4
  for (std::size_t k = 0; k < 4; ++k) {
    s[k][0] = _mm256_loadu_pd(sums[k]);
    s[k][1] = _mm256_loadu_pd(sums[k] + lanes);
  }
  for (std::size_t j = 0; j < width; j += lanes) {
    const __m256d first = _mm256_loadu_pd(b + j), second = _mm256_loadu_pd(b + stride + j);
#pragma GCC unroll 4
    for (std::size_t k = 0; k < 4; ++k) {
      const __m256d row = _mm256_loadu_pd(a + k * stride + j);
      s[k][0] = _mm256_add_pd(s[k][0], _mm256_mul_pd(row, first));
      s[k][1] = _mm256_add_pd(s[k][1], _mm256_mul_pd(row, second));
    }
  }
#pragma GCC unroll 4
  for (std::size_t k = 0; k < 4; ++k) {
    _mm256_storeu_pd(sums[k], s[k][0]);
    _mm256_storeu_pd(sums[k] + lanes, s[k][1]);
  }
}

ACP_AVX2 void gram_avx2(const float* rows, Rows size, double* products, Workspace& workspace) {
  const std::size_t all = padded(size.count), stride = block_width(size.count);
  workspace.assign(all * stride + all * all * lanes, 0);
  double* const block = workspace.data();
  double* const sums = block + all * stride;  // four numbers for each pair of rows
  for (std::size_t from = 0; from < size.length; from += stride) {
    const std::size_t width = std::min(stride, size.length - from);
    widen(rows, size, from, width, stride, block);
    const std::size_t rounded = (width + lanes - 1) / lanes * lanes;
    for (std::size_t k = 0; k < all; k += 4) {
      for (std::size_t l = 0; l < k + 4; l += 2) {
        double* to[4];
        for (std::size_t i = 0; i < 4; ++i) to[i] = sums + ((k + i) * all + l) * lanes;
        products_4x2(block + k * stride, block + l * stride, rounded, stride, to);
      }
    }
  }
  for (std::size_t k = 0; k < size.count; ++k) {
    for (std::size_t l = 0; l <= k; ++l) {
      const double* const four = sums + (k * all + l) * lanes;
      products[k * size.count + l] = ((four[0] + four[1]) + four[2]) + four[3];
    }
  }
}

// Eight columns of four new rows out of `terms` old ones; of the new ones, `count` are wanted.
ACP_AVX2 void combine_4x8(const double* block, std::size_t stride, const double* factors, std::size_t all,
                          std::size_t terms, std::size_t count, std::size_t columns, float* out,
                          std::size_t length) {
  __m256d s[4][2];
#pragma GCC unroll 4
  for (std::size_t k = 0; k < 4; ++k) s[k][0] = s[k][1] = _mm256_setzero_pd();
  for (std::size_t l = 0; l < terms; ++l) {
    const __m256d low = _mm256_loadu_pd(block + l * stride), high = _mm256_loadu_pd(block + l * stride + 4);
#pragma GCC unroll 4
    for (std::size_t k = 0; k < 4; ++k) {
      const __m256d factor = _mm256_set1_pd(factors[k * all + l]);
      s[k][0] = _mm256_add_pd(s[k][0], _mm256_mul_pd(factor, low));
      s[k][1] = _mm256_add_pd(s[k][1], _mm256_mul_pd(factor, high));
    }
  }
  for (std::size_t k = 0; k < count; ++k) {
    const __m128 low = _mm256_cvtpd_ps(s[k][0]), high = _mm256_cvtpd_ps(s[k][1]);
    if (columns == 8) {
      _mm_storeu_ps(out + k * length, low);
      _mm_storeu_ps(out + k * length + 4, high);
    } else {
      std::array<float, 8> some;
      _mm_storeu_ps(some.data(), low);
      _mm_storeu_ps(some.data() + 4, high);
      std::copy_n(some.begin(), columns, out + k * length);
    }
  }
}

ACP_AVX2 void combine_avx2(const float* rows, Rows size, const double* factors, float* out,
                           Workspace& workspace) {
  const std::size_t all = padded(size.count), stride = block_width(size.count);
  workspace.assign(all * stride + all * all, 0);
  double* const block = workspace.data();
  double* const square = block + all * stride;  // the factors, zero above the diagonal and in rows added
  for (std::size_t k = 0; k < size.count; ++k) {
    std::copy_n(factors + k * size.count, k + 1, square + k * all);
  }
  for (std::size_t from = 0; from < size.length; from += stride) {
    const std::size_t width = std::min(stride, size.length - from);
    widen(rows, size, from, width, stride, block);
    for (std::size_t k = 0; k < size.count; k += 4) {
      const std::size_t count = std::min<std::size_t>(4, size.count - k);
      for (std::size_t j = 0; j < width; j += 8) {
        combine_4x8(block + j, stride, square + k * all, all, k + count, count,
                    std::min<std::size_t>(8, width - j), out + k * size.length + from + j, size.length);
      }
    }
  }
}
#endif

}  // namespace

void gram_plain(const float* rows, Rows size, double* products) {
  for (std::size_t k = 0; k < size.count; ++k) {
    for (std::size_t l = 0; l <= k; ++l) {
      const float *const a = rows + k * size.length, *const b = rows + l * size.length;
      std::array<double, lanes> sums{};
      for (std::size_t j = 0; j < size.length; ++j) {
        sums[j % lanes] += static_cast<double>(a[j]) * static_cast<double>(b[j]);
      }
      products[k * size.count + l] = ((sums[0] + sums[1]) + sums[2]) + sums[3];
    }
  }
}

void combine_plain(const float* rows, Rows size, const double* factors, float* out) {
  for (std::size_t k = 0; k < size.count; ++k) {
    for (std::size_t j = 0; j < size.length; ++j) {
      double sum = 0;
      for (std::size_t l = 0; l <= k; ++l) {
        sum += factors[k * size.count + l] * static_cast<double>(rows[l * size.length + j]);
      }
      out[k * size.length + j] = static_cast<float>(sum);
    }
  }
}

void gram(const float* rows, Rows size, double* products, [[maybe_unused]] Workspace& workspace) {
#ifdef ACP_AVX2
  if (has_avx2()) return gram_avx2(rows, size, products, workspace);
#endif
  gram_plain(rows, size, products);
}

void combine(const float* rows, Rows size, const double* factors, float* out,
             [[maybe_unused]] Workspace& workspace) {
#ifdef ACP_AVX2
  if (has_avx2()) return combine_avx2(rows, size, factors, out, workspace);
#endif
  combine_plain(rows, size, factors, out);
}

}  // namespace acp::kernels
