// See transformer_layer.h.
#include "models/transformer_layer.h"

#include <torch/types.h>

#include <string>

#include "comm/error.h"

namespace acp::models {

namespace nn = torch::nn;
using at::Tensor;

void check_heads(const char* model, std::int64_t width, std::int64_t heads) {
  if (width % heads == 0) return;
  throw ConfigError(std::string(model) + ": " + std::to_string(heads) + " heads do not divide the width " +
                    std::to_string(width));
}

TransformerLayer::TransformerLayer(const TransformerShape& shape)
    : in_projection(register_module("in_projection", nn::Linear(shape.width, 3 * shape.width))),
      out_projection(register_module("out_projection", nn::Linear(shape.width, shape.width))),
      inner(register_module("inner", nn::Linear(shape.width, shape.inner))),
      outer(register_module("outer", nn::Linear(shape.inner, shape.width))),
      attention_norm(register_module("attention_norm",
                                     nn::LayerNorm(nn::LayerNormOptions({shape.width}).eps(shape.norm_eps)))),
      norm(register_module("norm", nn::LayerNorm(nn::LayerNormOptions({shape.width}).eps(shape.norm_eps)))),
      shape_(shape) {}

Tensor TransformerLayer::forward(const Tensor& x, const std::optional<Tensor>& mask) {
  return forward(x, mask, false);
}

Tensor TransformerLayer::forward_causal(const Tensor& x) {
  return forward(x, {}, true);
}

Tensor TransformerLayer::forward(const Tensor& x, const std::optional<Tensor>& mask, bool causal) {
  const std::int64_t batch = x.size(0), time = x.size(1), width = shape_.width;
  const auto parts = in_projection(x)
                         .view({batch, time, 3, shape_.heads, width / shape_.heads})
                         .permute({2, 0, 3, 1, 4})
                         .unbind(0);
  const double drop = is_training() ? shape_.attention_dropout : 0;
  const Tensor seen = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], mask, drop, causal);
  const Tensor attended = out_projection(seen.transpose(1, 2).reshape({batch, time, width}));
  const Tensor y = attention_norm(x + torch::dropout(attended, shape_.dropout, is_training()));
  const Tensor wide = inner(y);
  const Tensor bent = shape_.activation == Activation::gelu ? torch::gelu(wide) : torch::relu(wide);
  return norm(y + torch::dropout(outer(bent), shape_.dropout, is_training()));
}

}  // namespace acp::models
