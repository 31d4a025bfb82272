// See classifier.h.
#include "models/classifier.h"

#include <torch/nn/functional/loss.h>

#include "comm/error.h"

namespace acp::models {

using at::Tensor;

void Classifier::set_label_smoothing(double x) {
  if (!(x >= 0 && x < 1)) {
    throw ConfigError("label smoothing " + std::to_string(x) + ": must be at least 0 and below 1");
  }
  smoothing_ = x;
}

Tensor Classifier::loss(const Batch& batch) {
  return torch::cross_entropy_loss(forward(batch.inputs[0]), batch.target, {}, at::Reduction::Mean, -100,
                                   smoothing_);
}

Sums Classifier::no_sums() const {
  return {{"count", 0}, {"loss", 0}, {"correct", 0}};
}

Sums Classifier::evaluate(const Batch& batch) {
  const Tensor logits = forward(batch.inputs[0]);
  const Tensor loss = torch::cross_entropy_loss(logits, batch.target, {}, at::Reduction::Sum);
  const Tensor correct = (logits.argmax(1) == batch.target).sum();
  return {{"count", static_cast<double>(batch.size)},
          {"loss", loss.item<double>()},
          {"correct", correct.item<double>()}};
}

Metric Classifier::metric(const Sums& sums) const {
  return {"accuracy", 100 * sums.at("correct") / sums.at("count"), true};
}

}  // namespace acp::models
