// The matrix products of low-rank compression against plain ATen in float64.
#include "compressors/low_rank.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "compressors/philox.h"
#include "tests/catch.h"

using acp::Write;

namespace {

at::Tensor random(std::int64_t rows, std::int64_t columns, at::ScalarType type, std::uint64_t key) {
  auto x = at::empty({rows, columns}, at::kDouble);
  acp::Philox(11, "test", key, acp::Purpose::data)
      .fill_normal(std::span(x.data_ptr<double>(), static_cast<std::size_t>(x.numel())));
  return x.to(type);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

struct Shape {
  std::int64_t n, m, r;
};

const std::vector<Shape> shapes{{1, 1, 1},     {1, 9, 1},     {9, 1, 1},    {4, 3, 2},   {64, 32, 4},
                                {10, 50, 3},   {17, 5, 5},    {33, 65, 7},  {40, 40, 8}, {40, 40, 9},
                                {300, 401, 4}, {130, 70, 32}, {70, 9001, 4}};

}  // namespace

TEST_CASE("projections equal the products M Q and M^T P", "[unit]") {
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const auto& [n, m, r] : shapes) {
      CAPTURE(type, n, m, r);
      const auto matrix = random(n, m, type, 1), q = random(r, m, type, 2), p = random(r, n, type, 3);
      auto left = at::empty_like(p), right = at::empty_like(q);
      acp::project_left(matrix, q, left);
      acp::project_right(matrix, p, right);
      const auto wide = matrix.to(at::kDouble);
      const double tolerance = (type == at::kFloat ? 1e-6 : 1e-14) * static_cast<double>(n + m);
      CHECK(difference(left, at::mm(q.to(at::kDouble), wide.t())) < tolerance);
      CHECK(difference(right, at::mm(p.to(at::kDouble), wide)) < tolerance);
    }
  }
}

TEST_CASE("projections take in what is added, and the matrix keeps it", "[unit]") {
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const auto& [n, m, r] : shapes) {
      CAPTURE(type, n, m, r);
      const auto start = random(n, m, type, 1), added = random(n, m, type, 4), q = random(r, m, type, 2),
                 p = random(r, n, type, 3);
      const auto sum = start + added;
      auto left = at::empty_like(p), right = at::empty_like(q), expected = left.clone(),
           other = right.clone();
      auto matrix = start.clone();
      acp::project_left(matrix, q, left, {.p = {}, .q = {}, .added = added});
      CHECK(at::equal(matrix, sum));
      acp::project_left(sum, q, expected);
      CHECK(at::equal(left, expected));
      matrix = start.clone();
      acp::project_right(matrix, p, right, {.p = {}, .q = {}, .added = added});
      CHECK(at::equal(matrix, sum));
      acp::project_right(sum, p, other);
      CHECK(at::equal(right, other));
    }
  }
}

TEST_CASE("projections subtract a product first, with the bits of one after the other", "[unit]") {
  const int threads = at::get_num_threads();
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const auto& [n, m, r] : shapes) {
      for (const int used : {1, 2}) {
        CAPTURE(type, n, m, r, used);
        at::set_num_threads(used);
        const auto start = random(n, m, type, 1), added = random(n, m, type, 4), q = random(r, m, type, 2),
                   p = random(r, n, type, 3), old_q = random(r, m, type, 5), old_p = random(r, n, type, 6);
        auto expected = start.clone();
        acp::product(old_p, old_q, expected, Write::subtract);
        expected.add_(added);
        auto left = at::empty_like(p), right = at::empty_like(q), same_left = left.clone(),
             same_right = right.clone();
        acp::project_left(expected.clone(), q, same_left);
        acp::project_right(expected.clone(), p, same_right);
        auto matrix = start.clone();
        acp::project_left(matrix, q, left, {old_p, old_q, added});
        CHECK(at::equal(matrix, expected));
        CHECK(at::equal(left, same_left));
        matrix = start.clone();
        acp::project_right(matrix, p, right, {old_p, old_q, added});
        CHECK(at::equal(matrix, expected));
        CHECK(at::equal(right, same_right));
        at::set_num_threads(threads);
      }
    }
  }
}

TEST_CASE("product sets, adds or subtracts P Q^T", "[unit]") {
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const auto& [n, m, r] : shapes) {
      CAPTURE(type, n, m, r);
      const auto p = random(r, n, type, 1), q = random(r, m, type, 2), before = random(n, m, type, 3);
      const auto expected = at::mm(p.to(at::kDouble).t(), q.to(at::kDouble));
      const double tolerance = (type == at::kFloat ? 1e-6 : 1e-14) * static_cast<double>(r + 2);
      auto out = at::full({n, m}, 1e30, type);
      acp::product(p, q, out, Write::set);
      CHECK(difference(out, expected) < tolerance);
      out = before.clone();
      acp::product(p, q, out, Write::add);
      CHECK(difference(out, before.to(at::kDouble) + expected) < tolerance);
      out = before.clone();
      acp::product(p, q, out, Write::subtract);
      CHECK(difference(out, before.to(at::kDouble) - expected) < tolerance);
    }
  }
}

TEST_CASE("many vectors are added eight at a time, in order", "[unit]") {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto p = random(20, 70, type, 1), q = random(20, 90, type, 2), before = random(70, 90, type, 3);
    for (const auto write : {Write::set, Write::add, Write::subtract}) {
      auto out = before.clone(), expected = before.clone();
      acp::product(p, q, out, write);
      for (std::int64_t k = 0; k < 20; k += 8) {
        const auto count = std::min<std::int64_t>(8, 20 - k);
        acp::product(p.narrow(0, k, count), q.narrow(0, k, count), expected,
                     k == 0 || write == Write::subtract ? write : Write::add);
      }
      CHECK(at::equal(out, expected));
    }
  }
}

TEST_CASE("the shared result does not depend on the number of threads", "[unit]") {
  const int threads = at::get_num_threads();
  for (const std::int64_t r : {1, 4, 8, 32}) {
    CAPTURE(r);
    const auto p = random(r, 300, at::kFloat, 1), q = random(r, 501, at::kFloat, 2);
    std::vector<at::Tensor> results;
    for (const int n : {1, 2, 3}) {
      at::set_num_threads(n);
      acp::product(p, q, results.emplace_back(at::empty({300, 501})), Write::set);
    }
    at::set_num_threads(threads);
    CHECK(at::equal(results[0], results[1]));
    CHECK(at::equal(results[0], results[2]));
  }
}
