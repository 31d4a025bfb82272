// See adaptive_softmax.h.
#include "models/adaptive_softmax.h"

#include <torch/types.h>

#include <algorithm>
#include <string>
#include <utility>

#include "comm/error.h"
#include "models/language_model.h"

namespace acp::models {

using at::Tensor;

AdaptiveSoftmax::AdaptiveSoftmax(std::int64_t width, std::int64_t vocab, std::vector<std::int64_t> cutoffs)
    : bounds_(std::move(cutoffs)), bias(register_parameter("bias", torch::zeros({vocab}))) {
  const bool increasing =
      std::adjacent_find(bounds_.begin(), bounds_.end(), std::greater_equal<>()) == bounds_.end();
  if (!bounds_.empty() && (!increasing || bounds_.front() < 1 || bounds_.back() >= vocab)) {
    throw ConfigError("adaptive softmax: cut-offs must increase, from at least 1 to less than the " +
                      std::to_string(vocab) + " words");
  }
  if (const auto clusters = static_cast<std::int64_t>(bounds_.size()); clusters > 0) {
    cluster_weight = register_parameter("cluster_weight", torch::zeros({clusters, width}));
    cluster_bias = register_parameter("cluster_bias", torch::zeros({clusters}));
  }
  bounds_.push_back(vocab);
}

Tensor AdaptiveSoftmax::forward(const Tensor& x, const Tensor& words, const Tensor& target) {
  if (!cluster_weight.defined()) return token_losses(torch::linear(x, words, bias), target, 0);
  // A rare word's target in the first softmax is its cluster, which comes after the frequent words.
  const std::int64_t frequent = bounds_.front();
  Tensor first = target;
  for (std::size_t i = 0; i + 1 < bounds_.size(); ++i) {
    const Tensor inside = (target >= bounds_[i]).logical_and_(target < bounds_[i + 1]);
    first = first.masked_fill(inside, frequent + static_cast<std::int64_t>(i));
  }
  const Tensor logits = torch::linear(x, torch::cat({words.narrow(0, 0, frequent), cluster_weight}),
                                      torch::cat({bias.narrow(0, 0, frequent), cluster_bias}));
  Tensor losses = token_losses(logits, first, 0);
  for (std::size_t i = 0; i + 1 < bounds_.size(); ++i) {
    const Tensor rows = (first == frequent + static_cast<std::int64_t>(i)).nonzero().squeeze(1);
    if (rows.numel() == 0) continue;
    const std::int64_t begin = bounds_[i], count = bounds_[i + 1] - begin;
    const Tensor within =
        torch::linear(x.index_select(0, rows), words.narrow(0, begin, count), bias.narrow(0, begin, count));
    losses = losses.index_add(0, rows, token_losses(within, target.index_select(0, rows) - begin, 0));
  }
  return losses;
}

}  // namespace acp::models
