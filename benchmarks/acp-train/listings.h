// What acp-train prints instead of training: --help, --version, --list-models, --list-presets, --check-data.
#pragma once

#include <string>

#include "benchmarks/acp-train/options.h"

namespace acp::programs {

// Prints to standard output; returns the exit code.
int show(const TrainOptions& options, const std::string& help);

}  // namespace acp::programs
