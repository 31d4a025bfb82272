// The kernels of low rank: every form computes the bits of the plain one, wherever the work is cut.
#include <vector>

#include "compressors/kernels/gram_single.h"
#include "compressors/kernels/skinny.h"
#include "compressors/philox.h"
#include "tests/catch.h"
#include "tests/support/kernel_form.h"

using namespace acp;
using namespace acp::kernels;

namespace {

std::vector<float> normal(std::size_t n, std::uint64_t key) {
  std::vector<float> x(n);
  Philox(3, "skinny", key, Purpose::data).fill_normal(std::span(x));
  return x;
}

const std::vector<Skinny> sizes{{1, 1, 1},   {1, 7, 2},   {7, 1, 3},   {2, 8, 4},  {5, 16, 5}, {6, 17, 4},
                                {13, 40, 6}, {40, 13, 7}, {33, 65, 8}, {9, 24, 9}, {8, 31, 13}};

}  // namespace

TEST_CASE("kernels: skinny products equal the plain ones, cut anywhere", "[unit][kernels]") {
  const UseForm form(GENERATE(from_range(kernels::forms())));
  for (const auto& size : sizes) {
    for (const bool grows : {false, true}) {
      CAPTURE(size.n, size.m, size.r, grows);
      const auto added = normal(size.n * size.m, 1), p = normal(size.r * size.n, 2),
                 q = normal(size.r * size.m, 3);
      const auto* const more = grows ? added.data() : nullptr;
      const auto start = normal(size.n * size.m, 4);
      std::vector<float> to_p(p.size(), 9), plain_p(p.size(), 8), to_q(q.size(), 9), plain_q(q.size(), 8);

      auto matrix = start, plain = start;
      const std::size_t row = size.n / 3, column = size.m / 3;
      times_q(matrix.data(), more, q.data(), to_p.data(), size, {0, row});
      times_q(matrix.data(), more, q.data(), to_p.data(), size, {row, size.n});
      times_q_plain(plain.data(), more, q.data(), plain_p.data(), size, {0, size.n});
      CHECK(to_p == plain_p);
      CHECK(matrix == plain);
      CHECK((matrix == start) != grows);

      matrix = plain = start;
      for (const Lines columns : {Lines{column, size.m}, Lines{0, column}}) {
        if (row > 0) times_p(matrix.data(), more, p.data(), to_q.data(), size, {0, row}, columns);
        times_p(matrix.data(), more, p.data(), to_q.data(), size, {row, size.n}, columns);
      }
      times_p_plain(plain.data(), more, p.data(), plain_q.data(), size, {0, size.n}, {0, size.m});
      CHECK(to_q == plain_q);
      CHECK(matrix == plain);
      CHECK((matrix == start) != grows);
    }
  }
}

TEST_CASE("kernels: outer products equal the plain ones, cut anywhere", "[unit][kernels]") {
  const UseForm form(GENERATE(from_range(kernels::forms())));
  for (const auto& size : sizes) {
    if (size.r > widest_outer) continue;
    for (const auto write : {Write::set, Write::add, Write::subtract}) {
      CAPTURE(size.n, size.m, size.r, write);
      const auto p = normal(size.r * size.n, 2), q = normal(size.r * size.m, 3);
      auto out = normal(size.n * size.m, 4), plain = out;
      for (const Lines columns : {Lines{0, size.m / 3}, Lines{size.m / 3, size.m}}) {
        outer(p.data(), q.data(), out.data(), size, write, {0, size.n / 2}, columns);
        outer(p.data(), q.data(), out.data(), size, write, {size.n / 2, size.n}, columns);
      }
      outer_plain(p.data(), q.data(), plain.data(), size, write, {0, size.n}, {0, size.m});
      CHECK(out == plain);
    }
  }
}

// Large results take another way to memory, from rows that begin anywhere.
TEST_CASE("kernels: large outer products equal the plain ones", "[unit][kernels]") {
  const UseForm form(GENERATE(from_range(kernels::forms())));
  const Skinny size{1031, 2049, 3};
  const auto p = normal(size.r * size.n, 2), q = normal(size.r * size.m, 3);
  std::vector<float> out(size.n * size.m + 1, 9), plain(out);
  outer(p.data(), q.data(), out.data() + 1, size, Write::set, {0, size.n}, {0, size.m});
  outer_plain(p.data(), q.data(), plain.data() + 1, size, Write::set, {0, size.n}, {0, size.m});
  CHECK(out == plain);
}

TEST_CASE("kernels: dot products of rows and sums of rows equal the plain ones", "[unit][kernels]") {
  const UseForm form(GENERATE(from_range(kernels::forms())));
  for (const std::size_t count : {1, 2, 3, 4, 5, 8, 11, 32, 300}) {
    for (const std::size_t length : {1, 3, 8, 15, 64, 577, 2100}) {
      CAPTURE(count, length);
      if (count * length > 100000) continue;
      const Rows size{count, length};
      const auto rows = normal(count * length, 5);
      std::vector<double> factors(count * count), found(count * count), plain(count * count);
      Philox(3, "factors", 0, Purpose::data).fill_normal(std::span(factors));
      Workspace workspace(7, 1e300);  // what was there before must not matter
      gram(rows.data(), size, found.data(), workspace);
      gram_plain(rows.data(), size, plain.data());
      bool same = true;
      for (std::size_t k = 0; k < count; ++k) {
        for (std::size_t l = 0; l <= k; ++l) same = same && found[k * count + l] == plain[k * count + l];
      }
      CHECK(same);
      std::vector<float> out(rows.size(), 9), plain_out(rows.size(), 8);
      combine(rows.data(), size, factors.data(), out.data(), workspace);
      combine_plain(rows.data(), size, factors.data(), plain_out.data());
      CHECK(out == plain_out);

      SingleWorkspace single{std::vector<float>(7, 1e30F), std::vector<double>(7, 1e300)};
      gram_single(rows.data(), size, found.data(), single);
      std::vector<double> in_single(count * count);
      gram_single_plain(rows.data(), size, in_single.data());
      double off = 0;
      for (std::size_t k = 0; k < count; ++k) {
        for (std::size_t l = 0; l <= k; ++l) {
          const auto at = k * count + l;
          same = same && found[at] == in_single[at];
          const double lengths = std::sqrt(plain[k * count + k] * plain[l * count + l]);
          off = std::max(off, std::abs(found[at] - plain[at]) / lengths);
        }
      }
      CHECK(same);
      CHECK(off < 1.2e-7);
      std::ranges::fill(out, 7);
      combine_single(rows.data(), size, factors.data(), out.data(), single);
      combine_single_plain(rows.data(), size, factors.data(), plain_out.data());
      CHECK(out == plain_out);
    }
  }
}
