// What DistributedOptimizer needs besides the reducer: names for an optimizer's parameters, a warning, the
// mean of a loss.
#pragma once

#include <torch/optim/optimizer.h>

#include <string>
#include <vector>

#include "acp/gradient_reducer.h"

namespace acp::detail {

inline NamedTensors to_named(NamedTensors names) {
  return names;
}
template <class OrderedDict>
NamedTensors to_named(const OrderedDict& items) {
  return named_tensors(items);
}

// The optimizer's parameters with their names, in the order of its groups. A tensor that appears twice (tied
// weights) is removed from its later places, since libtorch would step it twice. ConfigError names what the
// optimizer has and `named` lacks, or the reverse; parameters that need no gradient may be absent.
NamedTensors match_parameters(std::vector<torch::optim::OptimizerParamGroup>& groups,
                              const NamedTensors& named);

// The same for no names: "group.index".
NamedTensors number_parameters(std::vector<torch::optim::OptimizerParamGroup>& groups);

// One line on rank 0 if both the optimizer and the error memory apply momentum: gradients are then
// accelerated twice, and training with both diverges.
void warn_of_momentum(const std::vector<torch::optim::OptimizerParamGroup>& groups,
                      const GradientReducer& reducer);

// The first group's learning rate, where the optimizer has one.
void tell_learning_rate(const std::vector<torch::optim::OptimizerParamGroup>& groups,
                        GradientReducer& reducer);

// The loss's mean over the ranks of the reducer, for optimizers that decide by it; an undefined loss stays
// so.
at::Tensor mean_loss(GradientReducer& reducer, const at::Tensor& local);

}  // namespace acp::detail
