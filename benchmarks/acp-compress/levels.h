// What multi-level compression saves: a smaller fraction chosen from the survivors of a larger one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "benchmarks/acp-compress/measure.h"

namespace acp::programs {

// Seconds of encoding, medians over turns: each fraction by itself, and the larger one together with what the
// smaller one would keep and both gains, as the policy gravac has it in every step.
struct Levels {
  double first = 0, second = 0, both = 0;

  // What the second level adds, by what compressing again would.
  double of_twice() const { return (both - first) / second; }
};

// Whether policies set a ratio in this specification.
bool has_levels(const std::string& spec);

// Of a method with a ratio (has_levels), in place of the ratio in its specification.
Levels measure_levels(const std::string& spec, double first, double second, const std::string& memory,
                      std::uint64_t seed, const at::Tensor& gradient, const Repeat& repeat);

}  // namespace acp::programs
