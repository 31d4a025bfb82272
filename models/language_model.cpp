// See language_model.h.
#include "models/language_model.h"

#include <torch/types.h>

#include <cmath>

namespace acp::models {

at::Tensor token_losses(const at::Tensor& logits, const at::Tensor& target, double smoothing) {
  return at::cross_entropy_loss(logits, target, {}, at::Reduction::None, no_target, smoothing);
}

at::Tensor mean_of_tokens(const at::Tensor& losses, const at::Tensor& target) {
  return losses.sum() / (target != no_target).sum().clamp_min(1);
}

Sums token_sums(const at::Tensor& losses, const Batch& batch) {
  return {{"count", static_cast<double>(batch.size)},
          {"loss", losses.sum(at::kDouble).item<double>()},
          {"tokens", (batch.target != no_target).sum().item<double>()}};
}

Metric perplexity(const Sums& sums) {
  return {"perplexity", std::exp(sums.at("loss") / sums.at("tokens")), false};
}

ModelInfo text_entry(ModelInfo info) {
  info.sample = [](const Values& values) -> SampleSpec {
    constexpr std::int64_t most = 1 << 24;
    const auto vocab = values.integer("vocab", 2, most), seq = values.integer("seq", 1, most);
    return {{{{seq}, vocab}}, {{seq}, vocab}};
  };
  info.from_data = {{"vocab", [](const SampleSpec& sample) { return sample.inputs.at(0).classes; }},
                    {"seq", [](const SampleSpec& sample) { return sample.inputs.at(0).shape.at(0); }}};
  return info;
}

at::Tensor LanguageModel::loss(const Batch& batch) {
  return mean_of_tokens(losses(batch, smoothing_), batch.target);
}

Sums LanguageModel::no_sums() const {
  return {{"count", 0}, {"loss", 0}, {"tokens", 0}};
}

Sums LanguageModel::evaluate(const Batch& batch) {
  return token_sums(losses(batch, 0), batch);
}

Metric LanguageModel::metric(const Sums& sums) const {
  return perplexity(sums);
}

}  // namespace acp::models
