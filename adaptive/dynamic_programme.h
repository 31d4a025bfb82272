// L-GreCo's dynamic programme: of each layer one candidate, so that the sizes add up to least within a budget
// of error.
#pragma once

#include <cstddef>
#include <vector>

namespace acp {

// Row per layer, column per candidate; rows may differ in length.
using Table = std::vector<std::vector<double>>;

struct Allocation {
  std::vector<std::size_t> chosen;  // column per layer
  double size = 0;                  // their sum
  double budget = 0;                // T = alpha * sum of the reference columns' errors
  std::size_t cell = 0;             // discretised error in the answer
  bool feasible = false;            // false: `chosen` is the reference
};

// Errors are cut into `buckets` parts of the budget and rounded up (Markov et al., L-GreCo, MLSys 2024,
// section 3, as published: an assignment is feasible if the parts add up to at most buckets - 1). Among equal
// sizes the smallest error, then the lower columns win. Nothing feasible, a budget of 0, an error or size
// that is not finite: the reference.
Allocation allocate_error(const Table& errors, const Table& sizes, const std::vector<std::size_t>& reference,
                          double alpha, std::size_t buckets = 10000);

}  // namespace acp
