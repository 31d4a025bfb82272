// The encoder layer of "Attention is all you need" (Vaswani et al., NIPS 2017), post-norm: what BERT and
// transformer-lm stack.
#pragma once

#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <cstdint>
#include <optional>

namespace acp::models {

enum class Activation : std::uint8_t { relu, gelu };

struct TransformerShape {
  std::int64_t width = 0, heads = 0, inner = 0;  // heads divide the width
  double dropout = 0;                            // of each sublayer's output
  double attention_dropout = 0;                  // of the attention's weights
  double norm_eps = 1e-5;
  Activation activation = Activation::relu;
};

// ConfigError unless the heads divide the width. `model` is for the message.
void check_heads(const char* model, std::int64_t width, std::int64_t heads);

// x + dropout(attention(x)), normalised; then the same with two linear layers. All [batch, time, width].
class TransformerLayer : public torch::nn::Module {
 public:
  explicit TransformerLayer(const TransformerShape& shape);

  // Every position sees those whose mask is 0; `mask` is added to the scores, broadcast to [batch, heads,
  // time, time].
  at::Tensor forward(const at::Tensor& x, const std::optional<at::Tensor>& mask);
  // Every position sees itself and what is before it.
  at::Tensor forward_causal(const at::Tensor& x);

  // Queries, keys and values from one matrix, [3 width, width].
  torch::nn::Linear in_projection, out_projection, inner, outer;
  torch::nn::LayerNorm attention_norm, norm;

 private:
  at::Tensor forward(const at::Tensor& x, const std::optional<at::Tensor>& mask, bool causal);

  TransformerShape shape_;
};

}  // namespace acp::models
