// Matches an optimizer's parameters with the model's names.
#include "acp/optimizer_support.h"

#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <sstream>
#include <unordered_map>
#include <unordered_set>

#include "comm/error.h"
#include "comm/log.h"

namespace acp::detail {

namespace {

std::string shape_text(const at::Tensor& t) {
  std::ostringstream text;
  text << t.sizes();
  return text.str();
}

double momentum_of(const torch::optim::OptimizerParamGroup& group) {
  if (!group.has_options()) return 0;
  if (const auto* sgd = dynamic_cast<const torch::optim::SGDOptions*>(&group.options()))
    return sgd->momentum();
  if (const auto* rms = dynamic_cast<const torch::optim::RMSpropOptions*>(&group.options()))
    return rms->momentum();
  return 0;
}

void remove_repeats(std::vector<torch::optim::OptimizerParamGroup>& groups) {
  std::unordered_set<const void*> seen;
  for (auto& group : groups) {
    std::erase_if(group.params(),
                  [&](const at::Tensor& p) { return !seen.insert(p.unsafeGetTensorImpl()).second; });
  }
}

}  // namespace

NamedTensors match_parameters(std::vector<torch::optim::OptimizerParamGroup>& groups,
                              const NamedTensors& named) {
  remove_repeats(groups);
  std::unordered_map<const void*, std::string> names;
  for (const auto& [name, tensor] : named) names.try_emplace(tensor.unsafeGetTensorImpl(), name);

  NamedTensors result;
  std::unordered_set<const void*> owned;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const auto& params = groups[g].params();
    for (std::size_t i = 0; i < params.size(); ++i) {
      owned.insert(params[i].unsafeGetTensorImpl());
      const auto name = names.find(params[i].unsafeGetTensorImpl());
      if (name != names.end()) {
        result.emplace_back(name->second, params[i]);
      } else if (params[i].requires_grad()) {
        throw ConfigError(
            "the optimizer's parameter " + std::to_string(i) + " of group " + std::to_string(g) +
            ", of shape " + shape_text(params[i]) +
            ", is not among the named parameters; give the named_parameters() of every module whose "
            "parameters it steps");
      }
    }
  }
  for (const auto& [name, tensor] : named) {
    if (tensor.requires_grad() && !owned.contains(tensor.unsafeGetTensorImpl())) {
      throw ConfigError(
          "parameter \"" + name +
          "\" is named but the optimizer does not have it; leave it out of the names or give it to the "
          "optimizer");
    }
  }
  return result;
}

NamedTensors number_parameters(std::vector<torch::optim::OptimizerParamGroup>& groups) {
  remove_repeats(groups);
  NamedTensors result;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const auto& params = groups[g].params();
    for (std::size_t i = 0; i < params.size(); ++i) {
      result.emplace_back(std::to_string(g) + "." + std::to_string(i), params[i]);
    }
  }
  return result;
}

void warn_of_momentum(const std::vector<torch::optim::OptimizerParamGroup>& groups,
                      const GradientReducer& reducer) {
  if (reducer.memory_momentum() == 0 || rank() != 0) return;
  for (const auto& group : groups) {
    const double momentum = momentum_of(group);
    if (momentum == 0) continue;
    std::ostringstream line;
    line << "the optimizer has momentum " << momentum << ", and the error memory \"dgc\" has its own ("
         << reducer.memory_momentum()
         << "): together they accelerate twice and training may diverge; set the optimizer's to 0, or take "
            "Options::memory(\"residual\")";
    log_warning(line.str());
    return;
  }
}

void tell_learning_rate(const std::vector<torch::optim::OptimizerParamGroup>& groups,
                        GradientReducer& reducer) {
  if (!reducer.has_policy() || groups.empty() || !groups[0].has_options()) return;
  try {
    reducer.learning_rate(groups[0].options().get_lr());
  } catch (const c10::Error&) {
    // Options of the user's own need not have a rate; policies do without then.
  }
}

at::Tensor mean_loss(GradientReducer& reducer, const at::Tensor& local) {
  return local.defined() ? reducer.mean(local) : local;
}

}  // namespace acp::detail
