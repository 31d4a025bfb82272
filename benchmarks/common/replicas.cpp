// See replicas.h.
#include "benchmarks/common/replicas.h"

#include <spdlog/fmt/fmt.h>
#include <torch/torch.h>

#include <algorithm>
#include <unordered_set>

#include "acp/broadcast.h"

namespace acp::programs {

namespace {

void choose_undecayed(const torch::nn::Module& module, const std::vector<std::string>& kinds,
                      std::unordered_set<const void*>& chosen) {
  const auto wanted = [&](const char* kind) { return std::ranges::find(kinds, kind) != kinds.end(); };
  const bool norm = wanted("norm") && module.name().find("Norm") != std::string::npos;
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    if (norm || (wanted("bias") && (item.key().starts_with("bias") || item.key().ends_with("_bias")))) {
      chosen.insert(item.value().unsafeGetTensorImpl());
    }
  }
  for (const auto& child : module.children()) choose_undecayed(*child, kinds, chosen);
}

}  // namespace

NamedTensors unique_parameters(const torch::nn::Module& model) {
  NamedTensors result;
  std::unordered_set<const void*> seen;
  for (const auto& item : model.named_parameters()) {
    if (item.value().requires_grad() && seen.insert(item.value().unsafeGetTensorImpl()).second) {
      result.emplace_back(item.key(), item.value());
    }
  }
  return result;
}

NamedTensors undecayed_parameters(const torch::nn::Module& model, const std::vector<std::string>& kinds) {
  std::unordered_set<const void*> chosen;
  choose_undecayed(model, kinds, chosen);
  auto result = unique_parameters(model);
  std::erase_if(result,
                [&](const auto& item) { return !chosen.contains(item.second.unsafeGetTensorImpl()); });
  return result;
}

void broadcast_buffers(const torch::nn::Module& model) {
  const torch::NoGradGuard no_grad;
  broadcast_parameters(named_tensors(model.named_buffers()));
}

double sum_over_ranks(const Context& context, double value) {
  auto tensor = at::full({1}, value, at::kDouble);
  perform(context.user_channel(), Collective::all_reduce(tensor));
  return tensor.item<double>();
}

std::string to_string(const models::Metric& metric) {
  if (metric.name == "accuracy") return fmt::format("accuracy {:.2f} %", metric.value);
  return fmt::format("{} {:.{}f}", metric.name, metric.value, metric.value < 2 ? 4 : 2);
}

Evaluation evaluate(const Context& context, models::Model& model,
                    const std::shared_ptr<const models::Samples>& samples,
                    const models::LoaderOptions& options, const std::function<bool()>& leave) {
  broadcast_buffers(model);
  const torch::NoGradGuard no_grad;
  model.eval();
  auto carried = model.carried();
  model.reset_state();
  auto sums = model.no_sums();
  for (const auto& batch : models::evaluation_batches(samples, options)) {
    models::add(sums, model.evaluate(batch));
    if (leave && leave()) break;
  }
  model.carry(std::move(carried));
  model.train();

  std::vector<double> values;
  for (const auto& [name, value] : sums) values.push_back(value);
  auto tensor = at::tensor(values, at::kDouble);
  perform(context.user_channel(), Collective::all_reduce(tensor));
  const auto* total = tensor.const_data_ptr<double>();
  for (auto& [name, value] : sums) value = *total++;

  Evaluation result{model.metric(sums), {}, {}};
  const auto count = sums.find("count");
  if (count == sums.end() || count->second <= 0) return result;
  for (const auto& [name, sum] : sums) {
    if (name != "count" && name != "tokens") result.means[name] = sum / count->second;
  }
  if (const auto tokens = sums.find("tokens"); tokens != sums.end() && result.means.contains("loss"))
    result.means["loss"] = sums["loss"] / std::max(tokens->second, 1.0);
  if (const auto loss = result.means.find("loss"); loss != result.means.end()) result.loss = loss->second;
  return result;
}

}  // namespace acp::programs
