// What acp-train saves and takes back: everything that the next step depends on.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <string>
#include <vector>

#include "acp/context.h"
#include "acp/gradient_reducer.h"
#include "benchmarks/acp-train/trainer.h"

namespace acp::programs {

// The parts of a run that are saved. The numbers of dropout are rank-local, so are the reducer's error
// memories.
struct TrainState {
  const Context& context;
  torch::nn::Module& model;
  torch::optim::Optimizer& optimizer;
  GradientReducer& reducer;
  LrSchedule& schedule;
  Position& position;
  std::string job;  // model and optimizer, which must be the same on resuming
};

// Collective calls. Errors: ConfigError when there is no checkpoint in the folder or it is another job's,
// DataError when it is damaged, Error when it cannot be written.
void save_checkpoint(const std::string& folder, const TrainState& state);
void load_checkpoint(const std::string& folder, const TrainState& state);

}  // namespace acp::programs
