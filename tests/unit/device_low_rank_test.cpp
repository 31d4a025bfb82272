// Orthogonalisation and products as a GPU computes them, run on the host, against the CPU's forms.
#include <ATen/ATen.h>

#include "compressors/low_rank.h"
#include "compressors/orthogonalize.h"
#include "tests/catch.h"
#include "tests/support/emulated_kernels.h"

namespace {

using acp::Factored;
using acp::Orthogonalization;
using acp::Write;
using acp::device::Emulation;

double largest(const at::Tensor& x) {
  return x.numel() > 0 ? x.abs().max().item<double>() : 0;
}

double off_orthonormal(const at::Tensor& basis) {
  const auto wide = basis.to(at::kDouble);
  return largest(at::mm(wide, wide.t()) - at::eye(wide.size(0), at::kDouble));
}

std::vector<at::Tensor> bases(const std::vector<at::Tensor>& matrices) {
  std::vector<Orthogonalization> batch;
  std::vector<at::Tensor> result;
  for (const auto& matrix : matrices) {
    result.push_back(at::full_like(matrix, 9));
    batch.push_back({matrix, result.back()});
  }
  acp::orthogonalize(batch);
  return result;
}

std::vector<at::Tensor> bases_of_gpu(const std::vector<at::Tensor>& matrices) {
  std::vector<at::Tensor> forwards, backwards;
  {
    const Emulation emulation;
    forwards = bases(matrices);
  }
  {
    const Emulation emulation(true);
    backwards = bases(matrices);
  }
  for (std::size_t k = 0; k < matrices.size(); ++k) CHECK(forwards[k].equal(backwards[k]));
  return forwards;
}

struct Shape {
  std::int64_t n, m, r;
};
const std::vector<Shape> shapes{{1, 1, 1},    {3, 5, 2},      {32, 128, 4},  {33, 129, 4}, {64, 300, 8},
                                {300, 70, 9}, {257, 100, 16}, {1000, 40, 3}, {70, 70, 64}, {513, 261, 33}};

}  // namespace

TEST_CASE("a GPU orthogonalises as the CPU does", "[unit][device]") {
  at::manual_seed(12);
  std::vector<at::Tensor> matrices;
  for (const std::int64_t rank : {1, 2, 4, 7, 22, 23, 32, 64}) {
    for (const std::int64_t length : {64, 65, 500, 3000}) {
      matrices.push_back(at::randn({rank, length}) * at::exp(at::randn({rank, 1}) * 5));
    }
  }
  matrices.push_back(at::randn({5, 40}) * 1e-25);
  matrices.push_back(at::randn({5, 40}) * 1e25);
  const auto found = bases_of_gpu(matrices), expected = bases(matrices);
  for (std::size_t k = 0; k < matrices.size(); ++k) {
    INFO(matrices[k].size(0) << " rows of " << matrices[k].size(1));
    CHECK(off_orthonormal(found[k]) < 1e-6);
    CHECK(largest(found[k] - expected[k]) < 1e-5);
  }
}

TEST_CASE("a GPU completes bases of dependent, zero and damaged rows", "[unit][device]") {
  at::manual_seed(13);
  auto equal = at::randn({1, 50}).expand({4, 50}).contiguous();
  auto one_zero = at::randn({6, 300});
  one_zero[3].zero_();
  auto nearly = at::randn({3, 400});
  nearly[2] = nearly[0] + nearly[1] * 1e-3 + at::randn({400}) * 1e-6;
  auto broken = at::randn({3, 40});
  broken[1][7] = std::numeric_limits<float>::quiet_NaN();
  auto infinite = at::randn({2, 40});
  infinite[0][39] = -std::numeric_limits<float>::infinity();
  const auto found =
      bases_of_gpu({at::zeros({4, 10}), equal, one_zero, nearly, broken, infinite, at::randn({40, 40}),
                    at::randn({2, 30}).repeat({8, 1}), at::zeros({3, 3})});
  CHECK(found[0].equal(at::eye(4, 10)));
  CHECK(found[8].equal(at::eye(3)));
  for (const auto& basis : found) CHECK(off_orthonormal(basis) < 2e-6);
}

TEST_CASE("products of a GPU are the CPU's", "[unit][device]") {
  at::manual_seed(14);
  const bool backwards = GENERATE(false, true), with_owed = GENERATE(false, true);
  const bool with_added = GENERATE(false, true);
  std::vector<Factored> batch, left, right;
  for (const auto& [n, m, r] : shapes) {
    const auto matrix = at::randn({n, m}), p = at::randn({r, n}), q = at::randn({r, m});
    acp::Before before;
    if (with_owed) before = {at::randn({r, n}), at::randn({r, m}), {}};
    if (with_added) before.added = at::randn({n, m});
    left.push_back({matrix.clone(), at::full({r, n}, 5.0F), q, before});
    right.push_back({matrix.clone(), p, at::full({r, m}, 5.0F), before});
    if (with_owed) acp::product(before.p, before.q, matrix, Write::subtract);
    if (with_added) matrix.add_(before.added);
    batch.push_back({matrix, p, q, {}});
  }
  {
    const Emulation emulation(backwards);
    acp::project_left(left);
    acp::project_right(right);
  }
  for (std::size_t k = 0; k < shapes.size(); ++k) {
    INFO(shapes[k].n << " x " << shapes[k].m << ", rank " << shapes[k].r);
    const auto wide = batch[k].matrix.to(at::kDouble);
    const auto p = at::mm(batch[k].q.to(at::kDouble), wide.t()), q = at::mm(batch[k].p.to(at::kDouble), wide);
    CHECK(left[k].matrix.equal(batch[k].matrix));
    CHECK(right[k].matrix.equal(batch[k].matrix));
    CHECK(largest(left[k].p.to(at::kDouble) - p) < 1e-5 * (1 + largest(p)));
    CHECK(largest(right[k].q.to(at::kDouble) - q) < 1e-5 * (1 + largest(q)));
  }
}

TEST_CASE("what a GPU makes of factors has the CPU's bits", "[unit][device]") {
  at::manual_seed(15);
  for (const auto write : {Write::set, Write::add, Write::subtract}) {
    std::vector<Factored> cpu, gpu;
    for (const auto& [n, m, r] : shapes) {
      cpu.push_back({at::randn({n, m}), at::randn({r, n}), at::randn({r, m}), {}});
      gpu.push_back(cpu.back());
      gpu.back().matrix = cpu.back().matrix.clone();
    }
    acp::product(cpu, write);
    {
      const Emulation emulation;
      acp::product(gpu, write);
    }
    for (std::size_t k = 0; k < cpu.size(); ++k) {
      INFO(shapes[k].n << " x " << shapes[k].m << ", rank " << shapes[k].r);
      CHECK(gpu[k].matrix.equal(cpu[k].matrix));
    }
  }
}
