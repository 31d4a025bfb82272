// What a run of acp-train says at its end: the JSON object and the lines for people.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "acp/context.h"
#include "benchmarks/acp-train/options.h"
#include "benchmarks/acp-train/trainer.h"

namespace acp::programs {

// Keys as docs/options.md lists them; numbers of rank 0 where ranks differ.
nlohmann::json report(const Context& context, const TrainOptions& options, const TrainResult& result);

// The same in a few aligned lines.
std::vector<std::string> summary(const nlohmann::json& report);

// The one line of a run that a signal has ended.
std::string describe_stop(const TrainOptions& options, const TrainResult& result);

}  // namespace acp::programs
