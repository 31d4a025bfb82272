// Orthonormal bases: exactness, completion of rank-deficient input, never a NaN.
#include "compressors/orthogonalize.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

#include "compressors/philox.h"
#include "tests/catch.h"

namespace {

at::Tensor random(std::int64_t rows, std::int64_t columns, at::ScalarType type = at::kFloat) {
  auto x = at::empty({rows, columns}, at::kDouble);
  acp::Philox(9, "test", static_cast<std::uint64_t>(rows * 1000 + columns), acp::Purpose::data)
      .fill_normal(std::span(x.data_ptr<double>(), static_cast<std::size_t>(x.numel())));
  return x.to(type);
}

at::Tensor basis_of(const at::Tensor& vectors) {
  auto basis = at::full_like(vectors, std::numeric_limits<double>::quiet_NaN());
  acp::orthogonalize(vectors, basis);
  return basis;
}

double off_orthonormal(const at::Tensor& basis) {
  const auto wide = basis.to(at::kDouble);
  return (at::mm(wide, wide.t()) - at::eye(wide.size(0), at::kDouble)).abs().max().item<double>();
}

// How far the vectors are from the span of the basis, relative to their norm.
double outside(const at::Tensor& vectors, const at::Tensor& basis) {
  const auto a = vectors.to(at::kDouble), q = basis.to(at::kDouble);
  return ((a - at::mm(at::mm(a, q.t()), q)).norm() / a.norm()).item<double>();
}

}  // namespace

TEST_CASE("a full-rank matrix gives an orthonormal basis of its span", "[unit]") {
  for (const auto& [count, length] : {std::pair{1, 1},
                                      {1, 7},
                                      {4, 64},
                                      {4, 4},
                                      {3, 17},
                                      {32, 100},
                                      {64, 64},
                                      {32, 700},
                                      {4, 30522},
                                      {300, 5000}}) {
    CAPTURE(count, length);
    const auto a = random(count, length);
    CHECK(off_orthonormal(basis_of(a)) < 1e-6);
    CHECK(outside(a, basis_of(a)) < 1e-6);
    const auto wide = random(count, length, at::kDouble);
    CHECK(off_orthonormal(basis_of(wide)) < 1e-14);
    CHECK(outside(wide, basis_of(wide)) < 1e-14);
  }
}

TEST_CASE("nearly dependent columns stay orthonormal", "[unit]") {
  auto a = random(4, 200);
  for (int k = 1; k < 4; ++k) a[k] = a[0] + 1e-4 * a[k];
  CHECK(off_orthonormal(basis_of(a)) < 1e-6);
}

// Vectors whose mutual angle shrinks: the methods change over on the way, and neither may be seen.
TEST_CASE("rows are orthonormal to 1e-6 however dependent the vectors are", "[unit]") {
  for (const std::int64_t count : {2, 4, 32}) {
    for (const double angle :
         {100.0, 10.0, 5.0, 3.0, 2.0, 1.0, 0.5, 1e-1, 1e-2, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6, 1e-8}) {
      CAPTURE(count, angle);
      auto a = random(count, 500);
      for (std::int64_t k = 1; k < count; ++k) a[k] = a[0] + angle * a[k];
      CHECK(off_orthonormal(basis_of(a)) < 1e-6);
    }
  }
}

TEST_CASE("vectors of unlike lengths keep their order and direction", "[unit]") {
  auto a = random(4, 300);
  const auto expected = basis_of(a);
  for (std::int64_t k = 0; k < 4; ++k) a[k] *= std::pow(10.0, 8.0 * static_cast<double>(k) - 20);
  CHECK((basis_of(a) - expected).abs().max().item<double>() < 1e-5);
}

TEST_CASE("a batch gives what each of its matrices gives alone, for any number of threads", "[unit]") {
  std::vector<acp::Orthogonalization> batch;
  for (const auto& [count, length] : {std::pair{4, 64}, {1, 9}, {32, 100}, {3, 3}, {4, 2000}}) {
    const auto a = random(count, length);
    batch.push_back({a, at::empty_like(a)});
  }
  batch[3].vectors.zero_();
  const int threads = at::get_num_threads();
  for (const int n : {1, 3}) {
    at::set_num_threads(n);
    for (const auto& one : batch) one.basis.fill_(7);
    acp::orthogonalize(batch);
    for (const auto& one : batch) CHECK(at::equal(one.basis, basis_of(one.vectors)));
  }
  at::set_num_threads(threads);
}

TEST_CASE("zero gives rows of the identity, as Householder does", "[unit]") {
  CHECK(at::equal(basis_of(at::zeros({3, 5})), at::eye(3, 5)));
  CHECK(at::equal(basis_of(at::zeros({2, 2})), at::eye(2, 2)));
}

TEST_CASE("a rank-deficient matrix is completed", "[unit]") {
  auto a = random(4, 30);
  a[1] = 2 * a[0];
  a[2].zero_();
  const auto basis = basis_of(a);
  CHECK(off_orthonormal(basis) < 1e-6);
  CHECK(outside(a, basis) < 1e-6);

  const auto square = at::ones({6, 6});
  CHECK(off_orthonormal(basis_of(square)) < 1e-6);
}

TEST_CASE("long rows with a large entry, completed: sums keep their digits", "[unit]") {
  for (const std::int64_t length : {3072, 30522, 100000}) {
    CAPTURE(length);
    auto a = at::full({3, length}, 0.3F);
    a.select(1, 0).fill_(1);
    a[1].zero_();  // dependent rows take the slower method
    CHECK(off_orthonormal(basis_of(a)) < 1e-6);
  }
}

TEST_CASE("scale does not matter, not even where squares overflow or vanish", "[unit]") {
  const auto a = random(3, 40);
  const auto basis = basis_of(a);
  for (const double scale : {1e-38, 1e-25, 1e25, 1e36}) {
    CAPTURE(scale);
    CHECK((basis_of(a * scale) - basis).abs().max().item<double>() < 1e-5);
  }
  CHECK(off_orthonormal(basis_of(at::full({1, 4}, 1e-45F))) < 1e-6);  // subnormal
}

TEST_CASE("infinite and undefined input gives a finite basis", "[unit]") {
  auto a = random(3, 20);
  a[0][3] = std::numeric_limits<float>::infinity();
  a[1][4] = std::numeric_limits<float>::quiet_NaN();
  CHECK(off_orthonormal(basis_of(a)) < 1e-6);
}

TEST_CASE("more vectors than dimensions are refused", "[unit]") {
  CHECK_THROWS_WITH(basis_of(at::ones({3, 2})), ContainsSubstring("3 vectors of length 2"));
}
