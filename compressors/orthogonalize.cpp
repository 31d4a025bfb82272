// Gram-Schmidt, twice, in loops of our own: the result must not depend on a library's choice for this
// processor.
#include "compressors/orthogonalize.h"

#include <ATen/Dispatch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "comm/error.h"

namespace acp {
namespace {

constexpr int lanes =
    16;  // partial sums of a dot product, so that it can be vectorised and is always added alike

template <class T>
T dot(const T* a, const T* b, std::int64_t n) {
  T partial[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int l = 0; l < lanes; ++l) partial[l] += a[i + l] * b[i + l];
  }
  T sum = 0;
  for (; i < n; ++i) sum += a[i] * b[i];
  for (const T part : partial) sum += part;
  return sum;
}

template <class T>
T norm(const T* a, std::int64_t n) {
  return std::sqrt(dot(a, a, n));
}

// Takes what lies in the span of the first `count` rows of `basis` out of `row`.
template <class T>
void project_out(const T* basis, std::int64_t count, std::int64_t n, T* row) {
  for (int pass = 0; pass < 2; ++pass) {
    for (std::int64_t k = 0; k < count; ++k) {
      const T* other = basis + k * n;
      const T part = dot(row, other, n);
      for (std::int64_t i = 0; i < n; ++i) row[i] -= part * other[i];
    }
  }
}

template <class T>
void divide(T* row, std::int64_t n, T by) {
  for (std::int64_t i = 0; i < n; ++i) row[i] /= by;
}

// `in` made orthonormal to the rows before; false if nothing of it is left (`row` is undefined then).
template <class T>
bool accept(const T* in, const T* basis, std::int64_t count, std::int64_t n, T* row) {
  T largest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(in[i])) return false;
    largest = std::max(largest, std::abs(in[i]));
  }
  if (largest == 0) return false;
  for (std::int64_t i = 0; i < n; ++i) row[i] = in[i] / largest;  // squares neither overflow nor vanish
  const T before = norm(row, n);
  project_out(basis, count, n, row);
  const T left = norm(row, n);
  const T enough = std::numeric_limits<T>::digits > 24 ? T(1e-13) : T(1e-6);
  if (!(left > enough * before)) return false;
  divide(row, n, left);
  return true;
}

// Completes the basis by the unit vector that it covers least.
template <class T>
void complete(const T* basis, std::int64_t count, std::int64_t n, T* row) {
  std::int64_t best = 0;
  T least = std::numeric_limits<T>::max();
  for (std::int64_t i = 0; i < n; ++i) {
    T covered = 0;
    for (std::int64_t k = 0; k < count; ++k) covered += basis[k * n + i] * basis[k * n + i];
    if (covered < least) {
      least = covered;
      best = i;
    }
  }
  std::fill_n(row, n, T(0));
  row[best] = 1;
  project_out(basis, count, n, row);
  divide(row, n, norm(row, n));
}

}  // namespace

void orthogonalize(const at::Tensor& vectors, const at::Tensor& basis) {
  const auto count = vectors.size(0), n = vectors.size(1);
  if (count > n || basis.sizes() != vectors.sizes()) {
    throw Error("orthogonalize: " + std::to_string(count) + " vectors of length " + std::to_string(n));
  }
  AT_DISPATCH_FLOATING_TYPES(vectors.scalar_type(), "orthogonalize", [&] {
    const auto* in = vectors.const_data_ptr<scalar_t>();
    auto* out = basis.data_ptr<scalar_t>();
    for (std::int64_t k = 0; k < count; ++k) {
      if (!accept(in + k * n, out, k, n, out + k * n)) complete(out, k, n, out + k * n);
    }
  });
}

}  // namespace acp
