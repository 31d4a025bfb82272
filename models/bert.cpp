// See bert.h.
#include "models/bert.h"

#include <torch/types.h>

#include <limits>
#include <string>

namespace acp::models {

namespace nn = torch::nn;
using at::Tensor;

namespace {

constexpr double norm_eps = 1e-12;

}  // namespace

void initialise_bert(nn::Module& module) {
  const torch::NoGradGuard no_gradients;
  for (const auto& each : module.modules(false)) {
    if (auto* linear = each->as<nn::Linear>()) {
      linear->weight.normal_(0, 0.02);
      linear->bias.zero_();
    } else if (auto* embedding = each->as<nn::Embedding>()) {
      embedding->weight.normal_(0, 0.02);
    }
  }
}

BertEncoder::BertEncoder(const BertShape& shape)
    : words(register_module("words", nn::Embedding(shape.vocab, shape.hidden))),
      positions(register_module("positions", nn::Embedding(shape.positions, shape.hidden))),
      types(register_module("types", nn::Embedding(2, shape.hidden))),
      norm(register_module("norm", nn::LayerNorm(nn::LayerNormOptions({shape.hidden}).eps(norm_eps)))),
      dropout_(shape.dropout) {
  const TransformerShape layer{shape.hidden,  shape.heads, shape.inner,     shape.dropout,
                               shape.dropout, norm_eps,    Activation::gelu};
  for (std::int64_t i = 0; i < shape.layers; ++i) {
    layers.push_back(register_module("layer" + std::to_string(i), std::make_shared<TransformerLayer>(layer)));
  }
  if (shape.pooler) pooler = register_module("pooler", nn::Linear(shape.hidden, shape.hidden));
}

Tensor BertEncoder::forward(const Tensor& ids, const Tensor& type, const Tensor& mask) {
  const std::int64_t time = ids.size(1);
  Tensor x = words(ids) + positions->weight.narrow(0, 0, time);
  x = x + (type.defined() ? types(type) : types->weight[0]);
  x = torch::dropout(norm(x), dropout_, is_training());
  // A number instead of -infinity, so that a row without any token has no NaN.
  const double hidden = x.scalar_type() == torch::kHalf ? -6e4 : std::numeric_limits<float>::lowest();
  const Tensor scores = ((1 - mask).to(x.scalar_type()) * hidden).unsqueeze(1).unsqueeze(1);
  for (const auto& layer : layers) x = layer->forward(x, scores.expand({-1, 1, time, time}));
  return x;
}

Tensor BertEncoder::pooled(const Tensor& encoded) {
  return torch::tanh(pooler(encoded.select(1, 0)));
}

}  // namespace acp::models
