// See replicas.h.
#include "benchmarks/common/replicas.h"

#include <spdlog/fmt/fmt.h>
#include <torch/torch.h>

#include <unordered_set>

#include "comm/error.h"

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

void broadcast_buffers(const Context& context, const torch::nn::Module& model) {
  if (context.size() == 1) return;
  const torch::NoGradGuard no_grad;
  for (const auto& item : model.named_buffers()) {
    auto copy = item.value().detach().to(at::kCPU).contiguous().clone();
    perform(context.user_channel(), Collective::broadcast(copy));
    item.value().detach().copy_(copy);
  }
}

double sum_over_ranks(const Context& context, double value) {
  auto tensor = at::full({1}, value, at::kDouble);
  perform(context.user_channel(), Collective::all_reduce(tensor));
  return tensor.item<double>();
}

Evaluation evaluate(const Context& context, models::Model& model,
                    const std::shared_ptr<const models::Samples>& samples,
                    const models::LoaderOptions& options) {
  broadcast_buffers(context, model);
  const torch::NoGradGuard no_grad;
  model.eval();
  auto sums = model.no_sums();
  for (const auto& batch : models::evaluation_batches(samples, options))
    models::add(sums, model.evaluate(batch));
  model.train();

  std::vector<double> values;
  for (const auto& [name, value] : sums) values.push_back(value);
  auto tensor = at::tensor(values, at::kDouble);
  perform(context.user_channel(), Collective::all_reduce(tensor));
  const auto* total = tensor.const_data_ptr<double>();
  for (auto& [name, value] : sums) value = *total++;

  Evaluation result{model.metric(sums), {}};
  const auto loss = sums.find("loss");
  const auto count = sums.find("count");
  if (loss != sums.end() && count != sums.end() && count->second > 0)
    result.loss = loss->second / count->second;
  return result;
}

std::uint64_t hash_of(const NamedTensors& tensors) {
  std::uint64_t hash = 14695981039346656037U;
  for (const auto& [name, tensor] : tensors) {
    const auto flat = tensor.detach().to(at::kCPU).contiguous();
    const auto* bytes = static_cast<const unsigned char*>(flat.const_data_ptr());
    for (std::size_t i = 0; i < flat.nbytes(); ++i) hash = (hash ^ bytes[i]) * 1099511628211U;
  }
  return hash;
}

std::string common_hash(const Context& context, const NamedTensors& parameters) {
  const auto hash = hash_of(parameters);
  auto mine = at::full({1}, static_cast<std::int64_t>(hash), at::kLong);
  auto all = at::zeros({context.size()}, at::kLong);
  perform(context.user_channel(), Collective::all_gather(mine, all));
  const auto* hashes = all.const_data_ptr<std::int64_t>();
  std::string others;
  for (int rank = 1; rank < context.size(); ++rank) {
    if (hashes[rank] != hashes[0]) others += (others.empty() ? "" : ", ") + std::to_string(rank);
  }
  if (!others.empty()) {
    throw CommunicationError(
        fmt::format("the parameters of these ranks are not those of rank 0 (hash {1:016x}): {0}; the ranks "
                    "have drifted apart, "
                    "which no setting should make possible",
                    others, static_cast<std::uint64_t>(hashes[0])));
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace acp::programs
