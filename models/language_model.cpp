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

SampleSpec text_sample(std::int64_t vocab, std::int64_t seq) {
  return {{{{seq}, vocab}}, {{seq}, vocab}};
}

std::map<std::string, std::function<std::int64_t(const SampleSpec&)>> text_from_data() {
  return {{"vocab", [](const SampleSpec& sample) { return sample.inputs.at(0).classes; }},
          {"seq", [](const SampleSpec& sample) { return sample.inputs.at(0).shape.at(0); }}};
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
