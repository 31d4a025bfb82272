// The loops that add up and convert gradients, by themselves: how fast they move memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "benchmarks/acp-comm/measure.h"

namespace acp::programs {

// Bytes per second count what a loop must read and write at least.
struct LoopRate {
  std::string loop;  // "float32 +=", ...
  double rate = 0;
};

// Of memcpy first, then of each loop, over `bytes` of input; medians.
std::vector<LoopRate> loop_rates(std::int64_t bytes, const Repetitions& repetitions);

}  // namespace acp::programs
