// Selection by magnitude against sorting.
#include "compressors/kernels/select.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compressors/kernels/compress.h"
#include "compressors/philox.h"
#include "tests/catch.h"

using namespace acp;

namespace {

std::vector<std::uint32_t> by_sorting(std::span<const float> x, std::size_t k) {
  std::vector<std::uint32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, [&](auto a, auto b) { return std::abs(x[a]) > std::abs(x[b]); });
  order.resize(std::min(k, order.size()));
  std::ranges::sort(order);
  return order;
}

// Normal, few distinct values, all zero, mostly zero, denormal, all equal but one.
std::vector<float> data(int kind, std::size_t n) {
  std::vector<float> x(n);
  Philox(3, "select", static_cast<std::uint64_t>(kind), Purpose::data).fill_normal(std::span(x));
  for (std::size_t i = 0; i < n; ++i) {
    if (kind == 1) x[i] = std::round(x[i]);
    if (kind == 2) x[i] = i % 2 == 0 ? 0.0F : -0.0F;
    if (kind == 3) x[i] = i % 100 == 7 ? x[i] : 0;
    if (kind == 4) x[i] *= 1e-40F;
    if (kind == 5) x[i] = i == n / 2 ? -2.0F : 1.0F;
    if (kind == 6) x[i] *= std::exp(20 * x[i]);
  }
  return x;
}

}  // namespace

TEST_CASE("top-k is exact, ties go to the lower index, indices ascend", "[unit]") {
  for (int kind = 0; kind < 7; ++kind) {
    for (const std::size_t n : {1U, 2U, 7U, 100U, 4096U, 4097U, 50000U, 70001U}) {
      const auto x = data(kind, n);
      for (const std::size_t k : {std::size_t{1}, n / 1000, n / 100, n / 10, n / 2, n - 1, n}) {
        std::vector<std::uint32_t> indices;
        std::vector<float> values, expected;
        kernels::top_k(x, k, indices, values);
        CAPTURE(kind, n, k);
        CHECK(indices == by_sorting(x, k));
        for (const auto i : indices) expected.push_back(x[i]);
        CHECK(values == expected);
      }
    }
  }
  std::vector<std::uint32_t> none;
  std::vector<float> no_values;
  kernels::top_k({}, 3, none, no_values);
  CHECK(none.empty());
}

TEST_CASE("every form of the compress pass finds the same", "[unit]") {
  for (const std::size_t n : {0U, 1U, 15U, 16U, 17U, 31U, 64U, 1000U, 33000U}) {
    for (int kind = 0; kind < 7; ++kind) {
      const auto x = data(kind, n);
      for (const auto least :
           {0U, 1U, kernels::magnitude(0.5F), kernels::magnitude(1.0F), kernels::infinite}) {
        std::vector<std::uint32_t> plain(n);
        plain.resize(kernels::compress_plain(x, least, 5, plain.data()));
        CAPTURE(n, kind, least);
        for (const auto form : kernels::compress_forms()) {
          std::vector<std::uint32_t> fast(n);
          fast.resize(form(x, least, 5, fast.data()));
          CHECK(plain == fast);
        }
        CHECK(plain.size() == kernels::count(x, least));
      }
    }
  }
}
