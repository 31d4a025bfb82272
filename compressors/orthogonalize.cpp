// Two methods, in loops of our own: the result must not depend on a library's choice for this processor.
//
// Cholesky's: with A the rows and G = A A^T = L L^T, the rows of L^-1 A are orthonormal: two passes over A.
// Rounding is multiplied by the square of A's condition. In float32 that is harmless if the rows are nearly
// orthogonal already, as those of a random matrix; in double, unless they are nearly dependent. Then, and for
// float64, Gram-Schmidt with every projection done twice.
#include "compressors/orthogonalize.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "comm/error.h"
#include "compressors/cuda/dispatch.h"
#include "compressors/kernels/gram_single.h"

namespace acp {
namespace {

// Partial sums of a dot product, so that it can be vectorised and is always added alike.
constexpr int lanes = 16;

// In double: the rounding of a long sum in float32 is more than an orthonormal row may be off.
template <class T>
double dot(const T* a, const T* b, std::int64_t n) {
  double partial[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int l = 0; l < lanes; ++l)
      partial[l] += static_cast<double>(a[i + l]) * static_cast<double>(b[i + l]);
  }
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (const double part : partial) sum += part;
  return sum;
}

template <class T>
double norm(const T* a, std::int64_t n) {
  return std::sqrt(dot(a, a, n));
}

// Takes what lies in the span of the first `count` rows of `basis` out of `row`.
template <class T>
void project_out(const T* basis, std::int64_t count, std::int64_t n, T* row) {
  for (int pass = 0; pass < 2; ++pass) {
    for (std::int64_t k = 0; k < count; ++k) {
      const T* other = basis + k * n;
      const auto part = static_cast<T>(dot(row, other, n));
      for (std::int64_t i = 0; i < n; ++i) row[i] -= part * other[i];
    }
  }
}

template <class T>
void divide(T* row, std::int64_t n, double by) {
  for (std::int64_t i = 0; i < n; ++i) row[i] = static_cast<T>(static_cast<double>(row[i]) / by);
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
  const double before = norm(row, n);
  project_out(basis, count, n, row);
  const double left = norm(row, n);
  const double enough = std::numeric_limits<T>::digits > 24 ? 1e-13 : 1e-6;
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

template <class T>
void gram_schmidt(const T* in, std::int64_t count, std::int64_t n, T* out) {
  for (std::int64_t k = 0; k < count; ++k) {
    if (!accept(in + k * n, out, k, n, out + k * n)) complete(out, k, n, out + k * n);
  }
}

// What the matrices of a thread share.
struct Room {
  std::vector<double> products, factors;
  kernels::Workspace workspace;
  kernels::SingleWorkspace single;
};

// Largest condition of rows of length 1 up to which double leaves an error below 1e-7: its square times 1e-16
// times the number of roundings.
constexpr double tame = 1e4;

// Of G scaled to a diagonal of ones, the trace of the inverse is the number of rows if they are orthogonal,
// and more by about its largest eigenvalue if they are not. Up to so much more, that is up to this squared
// condition, float32 leaves an error well below 1e-6.
constexpr double nearly_orthogonal = 12;

// Beyond, the partial sums of all pairs would take more room than they save time.
constexpr std::size_t most_single = 256;  // rows

// Squares of float32 are exact enough if rows have at least this mean square.
constexpr double least_square = 1e-28;

// Of the products of rows, L^-1 in `factors` (`products` are used up), and the trace of the inverse of G for
// rows of length 1; nothing if the rows are too nearly dependent, or not finite.
std::optional<double> invert(std::vector<double>& products, std::vector<double>& factors, std::size_t count) {
  const auto g = [&](std::size_t k, std::size_t l) -> double& { return products[k * count + l]; };
  const auto t = [&](std::size_t k, std::size_t l) -> double& { return factors[k * count + l]; };
  std::vector<double> lengths(count);
  for (std::size_t k = 0; k < count; ++k) {
    if (!(g(k, k) > 0) || !std::isfinite(g(k, k))) return std::nullopt;
    lengths[k] = std::sqrt(g(k, k));
  }
  // L^T stands above the diagonal, so that the inner loops run along rows.
  double sum = 0;
  for (std::size_t k = 0; k < count; ++k) {
    double left = 1;
    for (std::size_t l = 0; l < k; ++l) g(k, l) = g(k, l) / lengths[k] / lengths[l];
    for (std::size_t i = 0; i < k; ++i) {
      const double value = g(k, i) / g(i, i);
      g(k, i) = g(i, k) = value;
      left -= value * value;
      for (std::size_t l = i + 1; l < k; ++l) g(k, l) -= g(i, l) * value;
    }
    if (!(left > 1 / (tame * tame))) return std::nullopt;
    g(k, k) = std::sqrt(left);
    for (std::size_t l = 0; l < k; ++l) t(k, l) = 0;
    for (std::size_t i = 0; i < k; ++i) {
      for (std::size_t l = 0; l <= i; ++l) t(k, l) -= g(k, i) * t(i, l);
    }
    t(k, k) = 1;
    for (std::size_t l = 0; l <= k; ++l) {
      t(k, l) /= g(k, k);
      sum += t(k, l) * t(k, l);
    }
  }
  // The Frobenius norms of L and of its inverse bound the condition.
  if (!(sum * static_cast<double>(count) < tame * tame)) return std::nullopt;
  for (std::size_t k = 0; k < count; ++k) {
    for (std::size_t l = 0; l <= k; ++l) t(k, l) /= lengths[l];
  }
  return sum;
}

bool in_single(const float* in, kernels::Rows rows, float* out, Room& room) {
  kernels::gram_single(in, rows, room.products.data(), room.single);
  for (std::size_t k = 0; k < rows.count; ++k) {
    if (!(room.products[k * rows.count + k] > least_square * static_cast<double>(rows.length))) return false;
  }
  const auto trace = invert(room.products, room.factors, rows.count);
  if (!trace || !(*trace < static_cast<double>(rows.count) + nearly_orthogonal)) return false;
  kernels::combine_single(in, rows, room.factors.data(), out, room.single);
  return true;
}

void orthogonalize(const double* in, std::int64_t count, std::int64_t n, double* out, Room&) {
  gram_schmidt(in, count, n, out);
}

void orthogonalize(const float* in, std::int64_t count, std::int64_t n, float* out, Room& room) {
  const kernels::Rows rows{static_cast<std::size_t>(count), static_cast<std::size_t>(n)};
  room.products.resize(rows.count * rows.count);
  room.factors.assign(rows.count * rows.count, 0);
  if (rows.count <= most_single && in_single(in, rows, out, room)) return;
  kernels::gram(in, rows, room.products.data(), room.workspace);
  if (!invert(room.products, room.factors, rows.count)) return gram_schmidt(in, count, n, out);
  kernels::combine(in, rows, room.factors.data(), out, room.workspace);
}

// All that kernels of the GPU can do; false, with nothing done, if that is not all.
bool on_kernels(std::span<const Orthogonalization> batch) {
  const auto* const kernels = device::kernels_for(batch[0].vectors);
  if (kernels == nullptr) return false;
  std::vector<device::Basis> parts;
  for (const auto& [vectors, basis] : batch) {
    if (vectors.scalar_type() != at::kFloat || vectors.size(0) > device::widest) return false;
    parts.push_back({vectors.const_data_ptr<float>(), basis.data_ptr<float>(), vectors.size(1),
                     static_cast<int>(vectors.size(0))});
  }
  kernels->orthogonalize(parts, device::place_of(batch[0].vectors));
  return true;
}

void on_the_cpu(std::span<const Orthogonalization> batch) {
  std::vector<Orthogonalization> copies;
  for (const auto& [vectors, basis] : batch) {
    const auto copy = vectors.cpu();
    copies.push_back({copy, at::empty_like(copy)});
  }
  acp::orthogonalize(std::span<const Orthogonalization>(copies));
  for (std::size_t k = 0; k < batch.size(); ++k) {
    auto basis = batch[k].basis;
    basis.copy_(copies[k].basis);
  }
}

}  // namespace

void orthogonalize(const at::Tensor& vectors, const at::Tensor& basis) {
  const Orthogonalization one{vectors, basis};
  orthogonalize({&one, 1});
}

void orthogonalize(std::span<const Orthogonalization> batch) {
  for (const auto& [vectors, basis] : batch) {
    if (vectors.size(0) > vectors.size(1) || basis.sizes() != vectors.sizes()) {
      throw Error("orthogonalize: " + std::to_string(vectors.size(0)) + " vectors of length " +
                  std::to_string(vectors.size(1)));
    }
  }
  if (batch.empty() || on_kernels(batch)) return;
  if (!batch[0].vectors.is_cpu()) return on_the_cpu(batch);
  at::parallel_for(0, static_cast<std::int64_t>(batch.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    Room room;
    for (auto k = begin; k < end; ++k) {
      const at::Tensor& from = batch[static_cast<std::size_t>(k)].vectors;
      const at::Tensor& to = batch[static_cast<std::size_t>(k)].basis;
      AT_DISPATCH_FLOATING_TYPES(from.scalar_type(), "orthogonalize", [&] {
        orthogonalize(from.const_data_ptr<scalar_t>(), from.size(0), from.size(1), to.data_ptr<scalar_t>(),
                      room);
      });
    }
  });
}

}  // namespace acp
