// What the ranks do together while a model trains: buffers, sums, evaluation.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "acp/context.h"
#include "acp/gradient_reducer.h"
#include "models/loader.h"
#include "models/model.h"

namespace acp::programs {

// Trained parameters under their names; a tensor that has two names comes once, under its first.
NamedTensors unique_parameters(const torch::nn::Module& model);

// Those of the parameters whose gradients get no weight decay. `kinds`: "bias" (parameters whose own name
// begins with it or ends with _bias), "norm" (all parameters of modules whose type has "Norm" in its name).
NamedTensors undecayed_parameters(const torch::nn::Module& model, const std::vector<std::string>& kinds);

// Rank 0's buffers (running statistics of batch norm) go everywhere. A collective call.
void broadcast_buffers(const torch::nn::Module& model);

// Sum of `value` over all ranks, in double. A collective call.
double sum_over_ranks(const Context& context, double value);

// "accuracy 98.47 %", "HR@10 0.6321"
std::string to_string(const models::Metric& metric);

struct Evaluation {
  models::Metric metric;
  std::optional<double> loss;  // mean over the tokens, else the samples, where the model gives these sums
  models::Sums means;          // that loss, and every other sum / the number of samples
};

// Every sample once, on one rank; sums over all ranks, so every rank has the same answer. Rank 0's buffers
// are used, and stay. Leaves the model in training mode. `leave`: asked between batches; once true, the rest
// of this rank's samples is left out. A collective call.
Evaluation evaluate(const Context& context, models::Model& model,
                    const std::shared_ptr<const models::Samples>& samples,
                    const models::LoaderOptions& options, const std::function<bool()>& leave = {});

}  // namespace acp::programs
