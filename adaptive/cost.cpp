// See cost.h.
#include "adaptive/cost.h"

#include <algorithm>

namespace acp {

CostModel fit_costs(double small_bytes, double small_seconds, double large_bytes, double large_seconds) {
  CostModel costs;
  // Noise may make the larger message look cheaper: a byte then costs next to nothing, but not nothing.
  costs.beta = std::max((large_seconds - small_seconds) / (large_bytes - small_bytes), 1e-13);
  costs.alpha = std::max(small_seconds - costs.beta * small_bytes, 0.0);
  return costs;
}

}  // namespace acp
