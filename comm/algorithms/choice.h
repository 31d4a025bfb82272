// Which algorithm an all-reduce takes by itself: the one that the costs of messages let expect to be fastest.
#pragma once

#include <span>

#include "comm/algorithms/algorithms.h"
#include "comm/link_cost.h"

namespace acp {

// Messages of recursive doubling that follow each other: log2 of the number of ranks, two more unless that is
// a power of two.
int doubling_steps(int ranks);

// Seconds that an all-reduce of `bytes` of float32 over `host_of.size()` ranks is expected to take
// (docs/algorithms.md has the formulas); infinity for what does not apply: halving of two ranks, a hierarchy
// where no ranks share a host or all share one.
double expected_seconds(Algorithm algorithm, double bytes, const LinkCost& cost,
                        std::span<const int> host_of);

// The sizes at which the fastest changes, for ranks on the hosts `host_of` (by rank). Compared at powers of
// two, so the limits lie half-way between them: figures that hardly differ give the same limits, but for
// unlucky ones.
Tuning tuning_for(const LinkCost& cost, std::span<const int> host_of);

// What an all-reduce of `bytes` over `ranks` takes by itself. `half`: float16 or bfloat16, where `doubling`
// and `ring` stand for the short and the long way in rank order.
Algorithm choose_reduction(std::size_t bytes, bool half, int ranks, const Tuning& tuning);

}  // namespace acp
