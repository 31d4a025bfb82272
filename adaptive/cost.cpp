// See cost.h.
#include "adaptive/cost.h"

namespace acp {

CostModel exchange_costs(const LinkCost& link, int ranks, std::string_view exchange) {
  const double n = ranks, ring = 2 * (n - 1) / n;
  int rounds = 0;
  while ((1 << rounds) < ranks) ++rounds;
  const double volume = exchange == "gather" ? n - 1 : exchange == "tree" ? 2.0 * rounds : ring;
  return {.beta = volume * link.seconds_per_byte, .dense = ring * link.seconds_per_byte};
}

}  // namespace acp
