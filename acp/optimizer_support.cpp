// Matches an optimizer's parameters with the model's names.
#include "acp/optimizer_support.h"

#include <sstream>
#include <unordered_map>
#include <unordered_set>

#include "comm/error.h"

namespace acp::detail {

namespace {

std::string shape_text(const at::Tensor& t) {
  std::ostringstream text;
  text << t.sizes();
  return text.str();
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

at::Tensor mean_loss(GradientReducer& reducer, const at::Tensor& local) {
  return local.defined() ? reducer.mean(local) : local;
}

}  // namespace acp::detail
