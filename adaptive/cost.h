// What a step's compression and communication are expected to cost.
#pragma once

#include <optional>
#include <string_view>

#include "comm/link_cost.h"

namespace acp {

// Seconds: `beta` per byte that a rank contributes to the compressor's exchange, `dense` per byte of a tensor
// that travels whole, `gamma` per number of a matrix and rank of its factors (rank 1 for other methods).
struct CostModel {
  double beta = 0, dense = 0;
  std::optional<double> gamma{};  // nothing before any coding has been measured
};

// The volume that passes a link between n ranks per byte that each contributes, times the link's time per
// byte: n - 1 for an all-gather, 2 (n - 1) / n for a ring's all-reduce and for a compressed reduce-scatter
// and all-gather, 2 ceil(log2 n) for a tree. `exchange` as CompressorFactory::exchange() has it.
CostModel exchange_costs(const LinkCost& link, int ranks, std::string_view exchange);

}  // namespace acp
