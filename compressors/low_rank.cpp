// Matrix products of low-rank compression: narrow ones in kernels of our own, the rest by ATen.
#include "compressors/low_rank.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

namespace acp {
namespace {

using kernels::Lines;
using kernels::Skinny;

constexpr std::int64_t worth_a_thread = 32768;  // numbers of the matrix

// Up to so many vectors a product is bound by memory; beyond, ATen's blocked one is faster.
constexpr std::int64_t widest_projection = 8;

bool narrow(const at::Tensor& matrix, std::int64_t r) {
  return matrix.is_cpu() && matrix.scalar_type() == at::kFloat && r >= 1 && r <= widest_projection;
}

Skinny dimensions(const at::Tensor& matrix, std::int64_t r) {
  return {static_cast<std::size_t>(matrix.size(0)), static_cast<std::size_t>(matrix.size(1)),
          static_cast<std::size_t>(r)};
}

// Calls work(begin, end) for pieces of `lines` rows or columns of so many numbers.
template <class Work>
void share(std::int64_t lines, std::int64_t numbers, Work work) {
  at::parallel_for(0, lines, std::max<std::int64_t>(1, worth_a_thread / std::max<std::int64_t>(1, numbers)),
                   [&](std::int64_t begin, std::int64_t end) {
                     work(Lines{static_cast<std::size_t>(begin), static_cast<std::size_t>(end)});
                   });
}

const float* numbers(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr<float>() : nullptr;
}

// More vectors than a kernel takes are added in groups, block by block of rows, so that a block stays in the
// cache: a library's product would depend on the processor, and replicas on unlike machines would drift
// apart.
template <class T, class Outer>
void outer_in_groups(const T* p, const T* q, Skinny size, Write write, Lines rows, const Outer& outer) {
  constexpr std::size_t cache_bytes = std::size_t{1} << 18U;
  const auto block = std::max<std::size_t>(1, cache_bytes / std::max<std::size_t>(1, size.m * sizeof(T)));
  for (auto begin = rows.begin; begin < rows.end; begin += block) {
    const Lines some{begin, std::min(begin + block, rows.end)};
    for (std::size_t k = 0; k < size.r; k += kernels::widest_outer) {
      const auto count = std::min(kernels::widest_outer, size.r - k);
      const auto how = k == 0 || write == Write::subtract ? write : Write::add;
      outer(p + k * size.n, q + k * size.m, Skinny{size.n, size.m, count}, how, some);
    }
  }
}

}  // namespace

void project_left(const at::Tensor& matrix, const at::Tensor& q, const at::Tensor& p,
                  const at::Tensor& added) {
  if (!narrow(matrix, q.size(0))) {
    if (added.defined()) matrix.add_(added);
    auto out = p;
    at::mm_out(out, q, matrix.t());
    return;
  }
  share(matrix.size(0), matrix.size(1), [&](Lines rows) {
    kernels::times_q(matrix.data_ptr<float>(), numbers(added), numbers(q), p.data_ptr<float>(),
                     dimensions(matrix, q.size(0)), rows);
  });
}

void project_right(const at::Tensor& matrix, const at::Tensor& p, const at::Tensor& q,
                   const at::Tensor& added) {
  if (!narrow(matrix, p.size(0))) {
    if (added.defined()) matrix.add_(added);
    auto out = q;
    at::mm_out(out, p, matrix);
    return;
  }
  share(matrix.size(1), matrix.size(0), [&](Lines columns) {
    kernels::times_p(matrix.data_ptr<float>(), numbers(added), numbers(p), q.data_ptr<float>(),
                     dimensions(matrix, p.size(0)), columns);
  });
}

void product(const at::Tensor& p, const at::Tensor& q, const at::Tensor& out, Write write) {
  const auto r = p.size(0);
  if (out.is_cpu()) {
    share(out.size(0), out.size(1), [&](Lines rows) {
      if (out.scalar_type() == at::kFloat) {
        outer_in_groups(numbers(p), numbers(q), dimensions(out, r), write, rows,
                        [&](const float* a, const float* b, Skinny size, Write how, Lines some) {
                          kernels::outer(a, b, out.data_ptr<float>(), size, how, some);
                        });
      } else {
        outer_in_groups(p.const_data_ptr<double>(), q.const_data_ptr<double>(), dimensions(out, r), write,
                        rows, [&](const double* a, const double* b, Skinny size, Write how, Lines some) {
                          kernels::outer_plain(a, b, out.data_ptr<double>(), size, how, some);
                        });
      }
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
