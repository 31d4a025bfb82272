// What acp-train saves and takes back by acp::Checkpoints: everything that the next step depends on.
#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "acp/gradient_reducer.h"
#include "benchmarks/acp-train/position.h"
#include "benchmarks/common/lr_schedule.h"
#include "models/model.h"

namespace acp::programs {

// The parts of a run that are saved, besides torch's random numbers.
struct TrainState {
  torch::nn::Module& model;
  torch::optim::Optimizer& optimizer;
  GradientReducer& reducer;
  LrSchedule& schedule;
  Position& position;
  std::uint64_t seed = 0;
  std::string job;                              // model and optimizer, which must be the same on resuming
  std::map<std::string, std::string> settings;  // that may differ, but are worth a word when they do
  models::Model* carrier = nullptr;  // whose carried state is saved, too; `model` itself, if at all
};

// For runs that begin anew. A collective call. AgreedError (code 2): the folder cannot be written, or holds a
// checkpoint, which a new run would push out.
void check_new_run(const std::string& folder);

// Writes a checkpoint into the folder, beside those that are there; the newest few are kept. A collective
// call. AgreedError (code 3) when a file cannot be written.
void save_checkpoint(const std::string& folder, const TrainState& state);

// Takes back the newest one; returns a line for each setting that differs. A collective call. AgreedError:
// code 2 when there is no checkpoint or it is another job's (nothing is changed then), code 3 when it is
// damaged.
std::vector<std::string> load_checkpoint(const std::string& folder, const TrainState& state);

}  // namespace acp::programs
