// L-GreCo's dynamic programme at the size of a large network: 300 layers, 16 candidates, 10,000 parts of the
// budget.
#include "adaptive/dynamic_programme.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

#include "compressors/philox.h"
#include "tests/catch.h"

using namespace acp;

namespace {

struct Network {
  Table errors, sizes;
  std::vector<std::size_t> reference;
};

// Ranks 1 to 16 of layers whose sizes differ by a factor of 1,000 and whose spectra decay at different rates.
Network large_network() {
  const Philox random(3, "network", 0, Purpose::data);
  Network network;
  for (std::size_t l = 0; l < 300; ++l) {
    const double size = std::pow(10, 1 + 3 * random.uniform(3 * l)),
                 decay = 0.5 + 0.49 * random.uniform(3 * l + 1);
    const double norm = std::pow(10, 2 * random.uniform(3 * l + 2));
    auto& errors = network.errors.emplace_back();
    auto& sizes = network.sizes.emplace_back();
    for (int rank = 1; rank <= 16; ++rank) {
      errors.push_back(norm * std::pow(decay, rank));
      sizes.push_back(size * rank);
    }
  }
  network.reference.assign(300, 7);
  return network;
}

}  // namespace

TEST_CASE("300 layers: within the budget, smaller than uniform, and no single layer can shrink",
          "[unit][policy]") {
  const auto [errors, sizes, reference] = large_network();
  const auto answer = allocate_error(errors, sizes, reference, 1);
  REQUIRE(answer.feasible);
  double error = 0, size = 0, uniform = 0;
  for (std::size_t l = 0; l < 300; ++l) {
    error += errors[l][answer.chosen[l]];
    size += sizes[l][answer.chosen[l]];
    uniform += sizes[l][reference[l]];
  }
  CHECK(error <= answer.budget);
  CHECK(size == Approx(answer.size));
  CHECK(size < 0.7 * uniform);
  // What is left of the budget is less than any layer's next smaller candidate would take, rounding apart:
  // each layer's error is rounded up to a part.
  const double part = answer.budget / 10000;
  for (std::size_t l = 0; l < 300; ++l) {
    if (answer.chosen[l] == 0) continue;
    const double more = errors[l][answer.chosen[l] - 1] - errors[l][answer.chosen[l]];
    CHECK(error + more > answer.budget - 301 * part);
  }
}

// core-tests "[programme-time]" prints milliseconds.
TEST_CASE("time of the programme for 300 layers", "[.][programme-time]") {
  const auto [errors, sizes, reference] = large_network();
  std::vector<double> times;
  for (int i = 0; i < 7; ++i) {
    const auto began = std::chrono::steady_clock::now();
    REQUIRE(allocate_error(errors, sizes, reference, 1).feasible);
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count());
  }
  std::ranges::sort(times);
  std::printf("300 layers x 16 candidates x 10,000 parts: %.1f ms (median of 7)\n", times[3]);
}
