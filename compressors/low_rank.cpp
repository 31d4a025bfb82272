// Matrix products of low-rank compression: narrow ones in kernels of our own, the rest by ATen.
#include "compressors/low_rank.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "compressors/cuda/dispatch.h"
#include "compressors/cuda/low_rank.h"

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

// Calls work(rows) for all rows at once, or for so few at a time that they stay in the cache between two
// kernels.
template <class Work>
void in_blocks(Lines rows, std::size_t columns, bool small, Work work) {
  constexpr std::size_t cache_bytes = std::size_t{1} << 17U;
  if (!small) return work(rows);
  const auto block =
      std::max<std::size_t>(4, cache_bytes / std::max<std::size_t>(1, columns * sizeof(float)) / 4 * 4);
  for (auto begin = rows.begin; begin < rows.end; begin += block) {
    work(Lines{begin, std::min(begin + block, rows.end)});
  }
}

// M -= P Q^T in some rows and columns, before a narrow projection.
void subtract(const Before& before, const at::Tensor& matrix, Lines rows, Lines columns) {
  if (!before.p.defined()) return;
  kernels::outer(numbers(before.p), numbers(before.q), matrix.data_ptr<float>(),
                 dimensions(matrix, before.p.size(0)), Write::subtract, rows, columns);
}

// All of it, before a wide one.
void apply(const Before& before, const at::Tensor& matrix) {
  if (before.p.defined()) product(before.p, before.q, matrix, Write::subtract);
  if (before.added.defined()) matrix.add_(before.added);
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

device::Product as_product(const at::Tensor& matrix, const at::Tensor& p, const at::Tensor& q,
                           const at::Tensor& added = {}) {
  return {matrix.data_ptr<float>(), numbers(added), p.data_ptr<float>(),        q.data_ptr<float>(),
          matrix.size(0),           matrix.size(1), static_cast<int>(p.size(0))};
}

// Those of the batch that kernels of the GPU can do; work(one) for each of the others.
template <class Work>
std::vector<device::Product> for_kernels(std::span<const Factored> batch, const device::Kernels* kernels,
                                         const Work& work) {
  std::vector<device::Product> result, before;
  for (const auto& one : batch) {
    const auto r = one.p.size(0);
    if (kernels == nullptr || one.matrix.scalar_type() != at::kFloat || r < 1 || r > device::widest) {
      work(one);
      continue;
    }
    if (one.before.p.defined()) before.push_back(as_product(one.matrix, one.before.p, one.before.q));
    result.push_back(as_product(one.matrix, one.p, one.q, one.before.added));
  }
  if (!before.empty()) kernels->outer(before, Write::subtract, device::place_of(batch[0].matrix));
  return result;
}

}  // namespace

void project_left(std::span<const Factored> batch) {
  if (batch.empty()) return;
  const auto* const kernels = device::kernels_for(batch[0].matrix);
  const auto some = for_kernels(
      batch, kernels, [](const Factored& one) { project_left(one.matrix, one.q, one.p, one.before); });
  if (!some.empty()) kernels->times_q(some, device::place_of(batch[0].matrix));
}

void project_right(std::span<const Factored> batch) {
  if (batch.empty()) return;
  const auto* const kernels = device::kernels_for(batch[0].matrix);
  const auto some = for_kernels(
      batch, kernels, [](const Factored& one) { project_right(one.matrix, one.p, one.q, one.before); });
  if (some.empty()) return;
  const auto scratch = device::room(device::project_scratch(some), batch[0].matrix);
  kernels->times_p(some, device::bytes_of(scratch), device::place_of(batch[0].matrix));
}

void product(std::span<const Factored> batch, Write write) {
  if (batch.empty()) return;
  const auto* const kernels = device::kernels_for(batch[0].matrix);
  const auto some =
      for_kernels(batch, kernels, [&](const Factored& one) { product(one.p, one.q, one.matrix, write); });
  if (!some.empty()) kernels->outer(some, write, device::place_of(batch[0].matrix));
}

bool projection_sees_all(const at::Tensor& matrix, std::int64_t r) {
  return narrow(matrix, r);
}

void project_left(const at::Tensor& matrix, const at::Tensor& q, const at::Tensor& p, const Before& before) {
  if (!narrow(matrix, q.size(0))) {
    apply(before, matrix);
    auto out = p;
    at::mm_out(out, q, matrix.t());
    return;
  }
  const auto size = dimensions(matrix, q.size(0));
  share(matrix.size(0), matrix.size(1), [&](Lines rows) {
    in_blocks(rows, size.m, before.p.defined(), [&](Lines some) {
      subtract(before, matrix, some, {0, size.m});
      kernels::times_q(matrix.data_ptr<float>(), numbers(before.added), numbers(q), p.data_ptr<float>(), size,
                       some);
    });
  });
}

void project_right(const at::Tensor& matrix, const at::Tensor& p, const at::Tensor& q, const Before& before) {
  if (!narrow(matrix, p.size(0))) {
    apply(before, matrix);
    auto out = q;
    at::mm_out(out, p, matrix);
    return;
  }
  const auto size = dimensions(matrix, p.size(0));
  share(matrix.size(1), matrix.size(0), [&](Lines columns) {
    in_blocks({0, size.n}, columns.end - columns.begin, before.p.defined(), [&](Lines some) {
      subtract(before, matrix, some, columns);
      kernels::times_p(matrix.data_ptr<float>(), numbers(before.added), numbers(p), q.data_ptr<float>(), size,
                       some, columns);
    });
  });
}

void product(const at::Tensor& p, const at::Tensor& q, const at::Tensor& out, Write write) {
  const auto r = p.size(0);
  if (out.is_cpu()) {
    share(out.size(0), out.size(1), [&](Lines rows) {
      if (out.scalar_type() == at::kFloat) {
        outer_in_groups(numbers(p), numbers(q), dimensions(out, r), write, rows,
                        [&](const float* a, const float* b, Skinny size, Write how, Lines some) {
                          kernels::outer(a, b, out.data_ptr<float>(), size, how, some, {0, size.m});
                        });
      } else {
        outer_in_groups(p.const_data_ptr<double>(), q.const_data_ptr<double>(), dimensions(out, r), write,
                        rows, [&](const double* a, const double* b, Skinny size, Write how, Lines some) {
                          kernels::outer_plain(a, b, out.data_ptr<double>(), size, how, some, {0, size.m});
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
