// Tiles of two or four rows by up to four vectors: wide enough that memory, not arithmetic, sets the pace.
#include "compressors/kernels/skinny.h"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "compressors/kernels/simd.h"

namespace acp::kernels {
namespace {

constexpr std::size_t lanes = 8;
using Sums = std::array<float, lanes>;

float total(const Sums& sums) {
  float result = sums[0];
  for (std::size_t l = 1; l < lanes; ++l) result += sums[l];
  return result;
}

void add_to(float* to, const float* added, std::size_t begin, std::size_t end) {
  for (std::size_t j = begin; j < end; ++j) to[j] += added[j];
}

// Row times vector from column `from` on, a multiple of 8, continuing `sums`.
float finish_dot(const float* row, const float* vector, std::size_t from, std::size_t m, Sums sums) {
  for (; from + lanes <= m; from += lanes) {
    for (std::size_t l = 0; l < lanes; ++l) sums[l] += row[from + l] * vector[from + l];
  }
  for (std::size_t l = 0; from + l < m; ++l) sums[l] += row[from + l] * vector[from + l];
  return total(sums);
}

// q += M^T P of the rows and columns given.
void add_rows(const float* matrix, const float* p, float* q, Skinny size, Lines rows, Lines columns) {
  for (std::size_t i = rows.begin; i < rows.end; ++i) {
    for (std::size_t k = 0; k < size.r; ++k) {
      const float factor = p[k * size.n + i];
      for (std::size_t j = columns.begin; j < columns.end; ++j) {
        q[k * size.m + j] += factor * matrix[i * size.m + j];
      }
    }
  }
}

void clear(float* q, Skinny size, Lines columns) {
  for (std::size_t k = 0; k < size.r; ++k) {
    std::fill(q + k * size.m + columns.begin, q + k * size.m + columns.end, 0.0F);
  }
}

template <class T>
void put(T& out, T value, Write write) {
  if (write == Write::set) out = value;
  if (write == Write::add) out += value;
  if (write == Write::subtract) out -= value;
}

// Some columns of one row of P Q^T; `p` points at the row's number of the first vector. R is known when
// compiled, so the sum stays in registers.
template <std::size_t R, class T>
void outer_row(const T* p, const T* q, T* __restrict row, Skinny size, Write write, Lines columns) {
  std::array<T, R> factors{};
  for (std::size_t k = 0; k < R; ++k) factors[k] = p[k * size.n];
  for (std::size_t j = columns.begin; j < columns.end; ++j) {
    T sum = factors[0] * q[j];
    for (std::size_t k = 1; k < R; ++k) sum += factors[k] * q[k * size.m + j];
    put(row[j], sum, write);
  }
}

template <class T, std::size_t... R>
void outer_rows(std::index_sequence<R...>, const T* p, const T* q, T* out, Skinny size, Write write,
                Lines rows, Lines columns) {
  const auto all = [&]<std::size_t count>(std::integral_constant<std::size_t, count>) {
    for (std::size_t i = rows.begin; i < rows.end; ++i) {
      outer_row<count>(p + i, q, out + i * size.m, size, write, columns);
    }
  };
  ((R + 1 == size.r ? all(std::integral_constant<std::size_t, R + 1>()) : void()), ...);
}

#ifdef ACP_AVX2
// Two rows (or one) times R vectors; the rows grow by `added` on the way where there is one.
template <std::size_t Rows, std::size_t R, bool Add>
ACP_AVX2 void dots(float* row, const float* added, const float* q, float* p, Skinny size) {
  const std::size_t m = size.m, whole = m / lanes * lanes;
  __m256 sums[Rows][R];
#pragma GCC unroll 2
  for (std::size_t i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (std::size_t k = 0; k < R; ++k) sums[i][k] = _mm256_setzero_ps();
  }
  for (std::size_t j = 0; j < whole; j += lanes) {
#pragma GCC unroll 2
    for (std::size_t i = 0; i < Rows; ++i) {
      float* const at = row + i * m + j;
      __m256 value = _mm256_loadu_ps(at);
      if constexpr (Add) {
        value = _mm256_add_ps(value, _mm256_loadu_ps(added + i * m + j));
        _mm256_storeu_ps(at, value);
      }
#pragma GCC unroll 4
      for (std::size_t k = 0; k < R; ++k) {
        sums[i][k] = _mm256_add_ps(sums[i][k], _mm256_mul_ps(value, _mm256_loadu_ps(q + k * m + j)));
      }
    }
  }
  for (std::size_t i = 0; i < Rows; ++i) {
    if constexpr (Add) add_to(row + i * m, added + i * m, whole, m);
    for (std::size_t k = 0; k < R; ++k) {
      Sums some;
      _mm256_storeu_ps(some.data(), sums[i][k]);
      p[k * size.n + i] = finish_dot(row + i * m, q + k * m, whole, m, some);
    }
  }
}

template <std::size_t Rows, std::size_t R>
void dots(float* row, const float* added, const float* q, float* p, Skinny size) {
  added != nullptr ? dots<Rows, R, true>(row, added, q, p, size)
                   : dots<Rows, R, false>(row, nullptr, q, p, size);
}

// All vectors, four at a time: the rows stay in the cache.
template <std::size_t Rows>
void dots(float* row, const float* added, const float* q, float* p, Skinny size) {
  for (std::size_t k = 0; k < size.r; k += 4, added = nullptr) {
    const float* const some = q + k * size.m;
    float* const to = p + k * size.n;
    switch (std::min<std::size_t>(4, size.r - k)) {
      case 1:
        dots<Rows, 1>(row, added, some, to, size);
        break;
      case 2:
        dots<Rows, 2>(row, added, some, to, size);
        break;
      case 3:
        dots<Rows, 3>(row, added, some, to, size);
        break;
      default:
        dots<Rows, 4>(row, added, some, to, size);
    }
  }
}

// Four rows into R vectors; returns the first column that is left.
template <std::size_t R, bool Add>
ACP_AVX2 std::size_t add_four(float* row, const float* added, const float* p, float* q, Skinny size,
                              Lines columns) {
  const std::size_t m = size.m;
  __m256 factors[R][4];
  for (std::size_t k = 0; k < R; ++k) {
    for (std::size_t i = 0; i < 4; ++i) factors[k][i] = _mm256_set1_ps(p[k * size.n + i]);
  }
  std::size_t j = columns.begin;
  for (; j + lanes <= columns.end; j += lanes) {
    __m256 values[4];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) {
      values[i] = _mm256_loadu_ps(row + i * m + j);
      if constexpr (Add) {
        values[i] = _mm256_add_ps(values[i], _mm256_loadu_ps(added + i * m + j));
        _mm256_storeu_ps(row + i * m + j, values[i]);
      }
    }
#pragma GCC unroll 4
    for (std::size_t k = 0; k < R; ++k) {
      __m256 sum = _mm256_loadu_ps(q + k * m + j);
#pragma GCC unroll 4
      for (std::size_t i = 0; i < 4; ++i) sum = _mm256_add_ps(sum, _mm256_mul_ps(factors[k][i], values[i]));
      _mm256_storeu_ps(q + k * m + j, sum);
    }
  }
  return j;
}

template <std::size_t R>
std::size_t add_four(float* row, const float* added, const float* p, float* q, Skinny size, Lines columns) {
  return added != nullptr ? add_four<R, true>(row, added, p, q, size, columns)
                          : add_four<R, false>(row, nullptr, p, q, size, columns);
}

// All vectors, four at a time; `p` points at the first row's number of the first vector.
void add_four(float* row, const float* added, const float* p, float* q, Skinny size, Lines columns) {
  std::size_t rest = columns.end;
  for (std::size_t k = 0; k < size.r; k += 4) {
    const float *const grown = k == 0 ? added : nullptr, *const factors = p + k * size.n;
    float* const to = q + k * size.m;
    switch (std::min<std::size_t>(4, size.r - k)) {
      case 1:
        rest = add_four<1>(row, grown, factors, to, size, columns);
        break;
      case 2:
        rest = add_four<2>(row, grown, factors, to, size, columns);
        break;
      case 3:
        rest = add_four<3>(row, grown, factors, to, size, columns);
        break;
      default:
        rest = add_four<4>(row, grown, factors, to, size, columns);
    }
  }
  if (added != nullptr) {
    for (std::size_t i = 0; i < 4; ++i) add_to(row + i * size.m, added + i * size.m, rest, columns.end);
  }
  add_rows(row, p, q, size, {0, 4}, {rest, columns.end});
}

// Results of this size do not stay in the cache: they are written past it, which spares memory the reading of
// what is overwritten.
constexpr std::size_t streamed = std::size_t{2} << 20;  // floats

// Floats up to the next address that is a multiple of 32.
std::size_t misaligned(const float* x) {
  return (32 - reinterpret_cast<std::uintptr_t>(x) % 32) % 32 / sizeof(float);
}

template <std::size_t R, Write write, bool stream>
ACP_AVX2 void outer_avx2(const float* p, const float* q, float* out, Skinny size, Lines rows, Lines columns) {
  const std::size_t m = size.m;
  for (std::size_t i = rows.begin; i < rows.end; ++i) {
    float* const row = out + i * m;
    const std::size_t skipped = stream ? misaligned(row + columns.begin) : 0;
    const std::size_t first = std::min(columns.begin + skipped, columns.end);
    const std::size_t end = columns.end - (columns.end - first) % lanes;
    __m256 factors[R];
#pragma GCC unroll 8
    for (std::size_t k = 0; k < R; ++k) factors[k] = _mm256_set1_ps(p[k * size.n + i]);
    for (std::size_t j = first; j < end; j += lanes) {
      __m256 sum = _mm256_mul_ps(factors[0], _mm256_loadu_ps(q + j));
#pragma GCC unroll 8
      for (std::size_t k = 1; k < R; ++k) {
        sum = _mm256_add_ps(sum, _mm256_mul_ps(factors[k], _mm256_loadu_ps(q + k * m + j)));
      }
      if constexpr (write == Write::add) sum = _mm256_add_ps(_mm256_loadu_ps(row + j), sum);
      if constexpr (write == Write::subtract) sum = _mm256_sub_ps(_mm256_loadu_ps(row + j), sum);
      stream ? _mm256_stream_ps(row + j, sum) : _mm256_storeu_ps(row + j, sum);
    }
    outer_row<R>(p + i, q, row, size, write, {columns.begin, first});
    outer_row<R>(p + i, q, row, size, write, {end, columns.end});
  }
  if constexpr (stream) _mm_sfence();
}

template <std::size_t R>
void outer_avx2(const float* p, const float* q, float* out, Skinny size, Write write, Lines rows,
                Lines columns) {
  if (write == Write::add) return outer_avx2<R, Write::add, false>(p, q, out, size, rows, columns);
  if (write == Write::subtract) return outer_avx2<R, Write::subtract, false>(p, q, out, size, rows, columns);
  size.n* size.m < streamed ? outer_avx2<R, Write::set, false>(p, q, out, size, rows, columns)
                            : outer_avx2<R, Write::set, true>(p, q, out, size, rows, columns);
}

template <std::size_t... R>
void outer_avx2(std::index_sequence<R...>, const float* p, const float* q, float* out, Skinny size,
                Write write, Lines rows, Lines columns) {
  ((R + 1 == size.r ? outer_avx2<R + 1>(p, q, out, size, write, rows, columns) : void()), ...);
}
#endif

}  // namespace

void times_q_plain(float* matrix, const float* added, const float* q, float* p, Skinny size, Lines rows) {
  for (std::size_t i = rows.begin; i < rows.end; ++i) {
    float* const row = matrix + i * size.m;
    if (added != nullptr) add_to(row, added + i * size.m, 0, size.m);
    for (std::size_t k = 0; k < size.r; ++k) {
      p[k * size.n + i] = finish_dot(row, q + k * size.m, 0, size.m, {});
    }
  }
}

void times_p_plain(float* matrix, const float* added, const float* p, float* q, Skinny size, Lines rows,
                   Lines columns) {
  if (rows.begin == 0) clear(q, size, columns);
  for (std::size_t i = rows.begin; i < rows.end; ++i) {
    float* const row = matrix + i * size.m;
    if (added != nullptr) add_to(row, added + i * size.m, columns.begin, columns.end);
    add_rows(row, p + i, q, size, {0, 1}, columns);
  }
}

void outer_plain(const float* p, const float* q, float* out, Skinny size, Write write, Lines rows,
                 Lines columns) {
  outer_rows(std::make_index_sequence<widest_outer>(), p, q, out, size, write, rows, columns);
}

void outer_plain(const double* p, const double* q, double* out, Skinny size, Write write, Lines rows,
                 Lines columns) {
  outer_rows(std::make_index_sequence<widest_outer>(), p, q, out, size, write, rows, columns);
}

void times_q(float* matrix, const float* added, const float* q, float* p, Skinny size, Lines rows) {
#ifdef ACP_AVX2
  if (has_avx2()) {
    const auto added_at = [&](std::size_t i) { return added == nullptr ? nullptr : added + i * size.m; };
    std::size_t i = rows.begin;
    for (; i + 2 <= rows.end; i += 2) dots<2>(matrix + i * size.m, added_at(i), q, p + i, size);
    if (i < rows.end) dots<1>(matrix + i * size.m, added_at(i), q, p + i, size);
    return;
  }
#endif
  times_q_plain(matrix, added, q, p, size, rows);
}

void times_p(float* matrix, const float* added, const float* p, float* q, Skinny size, Lines rows,
             Lines columns) {
#ifdef ACP_AVX2
  if (has_avx2()) {
    if (rows.begin == 0) clear(q, size, columns);
    std::size_t i = rows.begin;
    for (; i + 4 <= rows.end; i += 4) {
      add_four(matrix + i * size.m, added == nullptr ? nullptr : added + i * size.m, p + i, q, size, columns);
    }
    for (; i < rows.end; ++i) {
      float* const row = matrix + i * size.m;
      if (added != nullptr) add_to(row, added + i * size.m, columns.begin, columns.end);
      add_rows(row, p + i, q, size, {0, 1}, columns);
    }
    return;
  }
#endif
  times_p_plain(matrix, added, p, q, size, rows, columns);
}

void outer(const float* p, const float* q, float* out, Skinny size, Write write, Lines rows, Lines columns) {
#ifdef ACP_AVX2
  if (has_avx2()) {
    return outer_avx2(std::make_index_sequence<widest_outer>(), p, q, out, size, write, rows, columns);
  }
#endif
  outer_plain(p, q, out, size, write, rows, columns);
}

}  // namespace acp::kernels
