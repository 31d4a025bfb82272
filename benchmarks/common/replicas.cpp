// See replicas.h.
#include "benchmarks/common/replicas.h"

#include <torch/torch.h>

#include <unordered_set>

#include "acp/broadcast.h"

namespace acp::programs {

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

void broadcast_buffers(const torch::nn::Module& model) {
  const torch::NoGradGuard no_grad;
  broadcast_parameters(named_tensors(model.named_buffers()));
}

double sum_over_ranks(const Context& context, double value) {
  auto tensor = at::full({1}, value, at::kDouble);
  perform(context.user_channel(), Collective::all_reduce(tensor));
  return tensor.item<double>();
}

Evaluation evaluate(const Context& context, models::Model& model,
                    const std::shared_ptr<const models::Samples>& samples,
                    const models::LoaderOptions& options) {
  broadcast_buffers(model);
  const torch::NoGradGuard no_grad;
  model.eval();
  model.reset_state();
  auto sums = model.no_sums();
  for (const auto& batch : models::evaluation_batches(samples, options))
    models::add(sums, model.evaluate(batch));
  model.reset_state();
  model.train();

  std::vector<double> values;
  for (const auto& [name, value] : sums) values.push_back(value);
  auto tensor = at::tensor(values, at::kDouble);
  perform(context.user_channel(), Collective::all_reduce(tensor));
  const auto* total = tensor.const_data_ptr<double>();
  for (auto& [name, value] : sums) value = *total++;

  Evaluation result{model.metric(sums), {}};
  const auto loss = sums.find("loss");
  const auto count = sums.find(sums.contains("tokens") ? "tokens" : "count");
  if (loss != sums.end() && count != sums.end() && count->second > 0)
    result.loss = loss->second / count->second;
  return result;
}

}  // namespace acp::programs
