// Matrix products of low-rank compression: narrow ones in loops of our own, the rest by ATen.
#include "compressors/low_rank.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <array>
#include <utility>

namespace acp {
namespace {

constexpr std::int64_t narrow = 8;              // widest rank of our own loops
constexpr std::int64_t worth_a_thread = 32768;  // numbers of the result

// One row of the product; R is known at compile time, so the sum stays in registers and the row is written
// once.
template <class T, std::size_t R, Write write>
void product_row(const std::array<T, R>& p, const T* q, std::int64_t m, T* __restrict out) {
  for (std::int64_t j = 0; j < m; ++j) {
    T sum = p[0] * q[j];
    for (std::size_t k = 1; k < R; ++k) sum += p[k] * q[static_cast<std::int64_t>(k) * m + j];
    if constexpr (write == Write::set) out[j] = sum;
    if constexpr (write == Write::add) out[j] += sum;
    if constexpr (write == Write::subtract) out[j] -= sum;
  }
}

template <class T, std::size_t R, Write write>
void narrow_product(const T* p, const T* q, std::int64_t n, std::int64_t m, T* out) {
  at::parallel_for(0, n, std::max<std::int64_t>(1, worth_a_thread / m),
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i) {
                       std::array<T, R> row{};
                       for (std::size_t k = 0; k < R; ++k) row[k] = p[static_cast<std::int64_t>(k) * n + i];
                       product_row<T, R, write>(row, q, m, out + i * m);
                     }
                   });
}

template <class T, std::size_t R>
void narrow_product(const T* p, const T* q, std::int64_t n, std::int64_t m, T* out, Write write) {
  if (write == Write::set) narrow_product<T, R, Write::set>(p, q, n, m, out);
  if (write == Write::add) narrow_product<T, R, Write::add>(p, q, n, m, out);
  if (write == Write::subtract) narrow_product<T, R, Write::subtract>(p, q, n, m, out);
}

// Calls narrow_product<T, r> for r = 1 .. narrow.
template <class T, std::size_t... R>
void narrow_product(std::index_sequence<R...>, std::int64_t r, const T* p, const T* q, std::int64_t n,
                    std::int64_t m, T* out, Write write) {
  ((static_cast<std::int64_t>(R) + 1 == r ? narrow_product<T, R + 1>(p, q, n, m, out, write) : void()), ...);
}

}  // namespace

void project_left(const at::Tensor& matrix, const at::Tensor& q, const at::Tensor& p) {
  auto out = p;
  at::mm_out(out, q, matrix.t());
}

void project_right(const at::Tensor& matrix, const at::Tensor& p, const at::Tensor& q) {
  auto out = q;
  at::mm_out(out, p, matrix);
}

void product(const at::Tensor& p, const at::Tensor& q, const at::Tensor& out, Write write) {
  const auto r = p.size(0);
  if (r <= narrow && out.is_cpu()) {
    AT_DISPATCH_FLOATING_TYPES(out.scalar_type(), "product", [&] {
      narrow_product<scalar_t>(std::make_index_sequence<narrow>(), r, p.const_data_ptr<scalar_t>(),
                               q.const_data_ptr<scalar_t>(), p.size(1), q.size(1), out.data_ptr<scalar_t>(),
                               write);
    });
    return;
  }
  auto result = out;
  if (write == Write::set) {
    at::mm_out(result, p.t(), q);
  } else {
    result.addmm_(p.t(), q, 1, write == Write::add ? 1 : -1);
  }
}

}  // namespace acp
