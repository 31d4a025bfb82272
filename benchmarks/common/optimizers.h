// The optimizers of libtorch and LAMB by name: "sgd", "sgd:nesterov=on", "adam:beta1=0.9,beta2=0.98".
#pragma once

#include <torch/optim/optimizer.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compressors/spec.h"

namespace acp::programs {

// What --help and docs/options.md say of an optimizer. A default that is absent: the optimizer has no such
// setting.
struct OptimizerInfo {
  std::string name;
  std::vector<KeyInfo> keys;  // besides the settings that have options of their own
  double lr = 0;
  std::optional<double> momentum, weight_decay;
  bool closure = false;  // calls the loss several times a step (LBFGS)
  bool savable = true;   // false: libtorch cannot save one that has stepped (LBFGS)
};

// Absent = the optimizer's default.
struct OptimizerSettings {
  double lr = 0.1;
  std::optional<double> momentum, weight_decay;
};

// In alphabetical order.
const std::vector<OptimizerInfo>& optimizers();

// ConfigError on an unknown name in the specification: lists the known ones and the nearest.
const OptimizerInfo& find_optimizer(std::string_view spec);

// "name:key=value,..." normalised; ConfigError on an unknown name or key.
std::string check_optimizer(std::string_view spec);

// ConfigError also for a momentum or weight decay given to an optimizer that has none (0 is fine).
std::unique_ptr<torch::optim::Optimizer> make_optimizer(std::string_view spec,
                                                        std::vector<at::Tensor> parameters,
                                                        const OptimizerSettings& settings);
std::unique_ptr<torch::optim::Optimizer> make_optimizer(std::string_view spec,
                                                        std::vector<at::Tensor> parameters, double lr,
                                                        double momentum, double weight_decay);

// The same with two groups of parameters: the second has no weight decay.
std::unique_ptr<torch::optim::Optimizer> make_optimizer(std::string_view spec,
                                                        std::vector<at::Tensor> decayed,
                                                        std::vector<at::Tensor> undecayed,
                                                        const OptimizerSettings& settings);

// Sets the rate of every parameter group.
void set_learning_rate(torch::optim::Optimizer& optimizer, double lr);

}  // namespace acp::programs
