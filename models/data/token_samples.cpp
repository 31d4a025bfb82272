// A running text as samples of T tokens, for language models.
#include "models/data/token_samples.h"

#include <torch/types.h>

#include <algorithm>

#include "comm/error.h"

namespace acp::models {

TokenSamples::TokenSamples(Tokens tokens, std::int64_t length, bool training)
    : tokens_(std::move(tokens)), length_(length) {
  const std::int64_t predicted = std::max<std::int64_t>(static_cast<std::int64_t>(tokens_.size()) - 1, 0);
  size_ = training ? predicted / length : (predicted + length - 1) / length;
}

Batch TokenSamples::get(std::span<const std::int64_t> indices, std::int64_t) const {
  const auto n = static_cast<std::int64_t>(indices.size());
  const at::Tensor input = torch::empty({n, length_}, torch::kLong);
  const at::Tensor target = torch::empty({n, length_}, torch::kLong);
  auto* in = input.mutable_data_ptr<std::int64_t>();
  auto* out = target.mutable_data_ptr<std::int64_t>();
  for (const std::int64_t index : indices) {
    const auto begin = static_cast<std::size_t>(index * length_);
    for (std::size_t at = begin; at < begin + static_cast<std::size_t>(length_); ++at) {
      *in++ = at < tokens_.size() ? tokens_[at] : 0;
      *out++ = at + 1 < tokens_.size() ? tokens_[at + 1] : -100;
    }
  }
  return {{input}, target, n};
}

std::int64_t wanted_length(const LoadOptions& options) {
  const auto& inputs = options.wanted.inputs;
  const bool list = !inputs.empty() && inputs[0].shape.size() == 1 && inputs[0].classes > 0;
  return list && inputs[0].shape[0] > 0 ? inputs[0].shape[0] : 35;
}

DataSet text_set(std::string name, std::int64_t classes, Tokens train, Tokens eval, Tokens test,
                 std::int64_t length) {
  DataSet set;
  const auto part = [&](const char* which, Tokens tokens, bool training) {
    const std::size_t count = tokens.size();
    auto samples = std::make_shared<TokenSamples>(std::move(tokens), length, training);
    if (samples->size() == 0) {
      throw DataError(name + ": the " + which + " part has " + std::to_string(count) +
                      " tokens, and a sample takes " + std::to_string(training ? length + 1 : 2));
    }
    return samples;
  };
  const bool has_test = !test.empty();
  set.train = part("training", std::move(train), true);
  set.eval = part("validation", std::move(eval), false);
  if (has_test) set.test = part("test", std::move(test), false);
  set.name = std::move(name);
  set.sample = {{{{length}, classes}}, {{length}, classes}};
  set.order = Order::contiguous;
  return set;
}

}  // namespace acp::models
