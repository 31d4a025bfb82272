// Times of something that all ranks do together, as the slowest of them saw it.
#pragma once

#include <cstdint>
#include <functional>

#include "comm/communicator.h"

namespace acp::programs {

struct Repetitions {
  std::int64_t iterations = 20, warmup = 5;
};

// Seconds, but for cpu: share of one core that the busiest rank's process used meanwhile.
struct Timing {
  double median = 0, p99 = 0, mean = 0, min = 0, max = 0, cpu = 0;
};

// Performs `work` on every rank, one repetition after the other without a barrier between them, and times
// each; figures are the largest over the ranks. Collective over `c`.
Timing time_together(Communicator& c, const Repetitions& repetitions, const std::function<void()>& work);

// Sum over the ranks. Collective.
std::int64_t sum_together(Communicator& c, std::int64_t value);

}  // namespace acp::programs
