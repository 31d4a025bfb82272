// Layer by layer, the least size for every sum of errors.
#include "adaptive/dynamic_programme.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace acp {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

bool finite(const Table& table) {
  return std::ranges::all_of(table, [](const auto& row) {
    return std::ranges::all_of(row, [](double x) { return std::isfinite(x); });
  });
}

Allocation keep_reference(const Table& sizes, const std::vector<std::size_t>& reference, double budget) {
  Allocation result;
  result.chosen = reference;
  result.budget = budget;
  for (std::size_t l = 0; l < reference.size(); ++l) result.size += sizes[l][reference[l]];
  return result;
}

}  // namespace

Allocation allocate_error(const Table& errors, const Table& sizes, const std::vector<std::size_t>& reference,
                          double alpha, std::size_t buckets) {
  const std::size_t layers = errors.size();
  double budget = 0;
  for (std::size_t l = 0; l < layers; ++l) budget += errors[l][reference[l]];
  budget *= alpha;
  if (layers == 0 || !(budget > 0) || !std::isfinite(budget) || !finite(errors) || !finite(sizes)) {
    return keep_reference(sizes, reference, budget);
  }

  const double width = budget / static_cast<double>(buckets);
  const auto parts = [&](double error) {
    const double count = std::ceil(std::min(error, budget + 1) / width);
    return static_cast<std::size_t>(std::clamp(count, 1.0, static_cast<double>(buckets)));
  };

  // The first layer counts one part more, as in the published programme.
  std::vector<double> least(buckets + 1, infinity), next(buckets + 1);
  std::vector<std::vector<std::uint16_t>> choice(layers, std::vector<std::uint16_t>(buckets + 1, 0));
  for (std::size_t k = 0; k < errors[0].size(); ++k) {
    for (std::size_t x = parts(errors[0][k]) + 1; x <= buckets; ++x) {
      if (sizes[0][k] >= least[x]) continue;
      least[x] = sizes[0][k];
      choice[0][x] = static_cast<std::uint16_t>(k);
    }
  }
  for (std::size_t l = 1; l < layers; ++l) {
    std::ranges::fill(next, infinity);
    auto* const chosen = choice[l].data();
    for (std::size_t k = 0; k < errors[l].size(); ++k) {
      const std::size_t cost = parts(errors[l][k]);
      const double size = sizes[l][k];
      const double* const before = least.data();
      double* const after = next.data() + cost;
      auto* const here = chosen + cost;
      for (std::size_t x = 0; x <= buckets - cost; ++x) {
        const double sum = before[x] + size;
        const bool better = sum < after[x];
        after[x] = better ? sum : after[x];
        here[x] = better ? static_cast<std::uint16_t>(k) : here[x];
      }
    }
    std::swap(least, next);
  }

  const auto best = std::ranges::min_element(least);
  if (*best == infinity) return keep_reference(sizes, reference, budget);
  Allocation result;
  result.budget = budget;
  result.size = *best;
  result.cell = static_cast<std::size_t>(best - least.begin());
  result.feasible = true;
  result.chosen.resize(layers);
  for (std::size_t l = layers, x = result.cell; l-- > 0;) {
    result.chosen[l] = choice[l][x];
    x -= parts(errors[l][choice[l][x]]);
  }
  return result;
}

}  // namespace acp
