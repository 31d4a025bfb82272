// What a compressor all-reduces of a model's gradients in one step, without training the model.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fusion/plan.h"

namespace acp::programs {

struct Message {
  std::int64_t elements = 0;
  at::ScalarType type = at::kFloat;
  std::int64_t bytes() const;
};

// The messages of two consecutive steps (ACP-SGD's differ by turns), each in the order of the engine.
struct StepMessages {
  std::vector<Message> even, odd;
  double payload() const;  // mean bytes a step
};

// Parameters of a model of the registry, in the order of registration.
std::vector<ParameterInfo> parameters_of(const std::string& model, const std::string& compressor,
                                         std::uint64_t seed);

// Runs the compressor of every bucket by itself on random gradients and notes what it asks for. Buckets are
// planned from the parameters in reverse order, which is about the order of a backward pass; `fusion_mb` 0 =
// one tensor a message. ConfigError if it asks for anything but all-reduces.
StepMessages messages_of(std::span<const ParameterInfo> parameters, const std::string& compressor,
                         double fusion_mb, int ranks, std::uint64_t seed);

}  // namespace acp::programs
