// What acp-train saves and takes back by acp::Checkpoints: everything that the next step depends on.
#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <cstdint>
#include <string>

#include "acp/gradient_reducer.h"
#include "benchmarks/acp-train/trainer.h"

namespace acp::programs {

// The parts of a run that are saved, besides torch's random numbers.
struct TrainState {
  torch::nn::Module& model;
  torch::optim::Optimizer& optimizer;
  GradientReducer& reducer;
  LrSchedule& schedule;
  Position& position;
  std::uint64_t seed = 0;
  std::string job;  // model and optimizer, which must be the same on resuming
};

// Writes a checkpoint into the folder, beside those that are there; the newest few are kept. A collective
// call. AgreedError (code 3) when a file cannot be written.
void save_checkpoint(const std::string& folder, const TrainState& state);

// Takes back the newest one. A collective call. AgreedError: code 2 when there is no checkpoint or it is
// another job's (nothing is changed then), code 3 when it is damaged.
void load_checkpoint(const std::string& folder, const TrainState& state);

}  // namespace acp::programs
