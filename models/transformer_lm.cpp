// The Transformer as a language model (Vaswani et al., NIPS 2017, the decoder's layers without an encoder):
// sinusoidal positions, post-norm, one matrix for the embedding and the output.
#include <torch/nn/init.h>
#include <torch/nn/modules/embedding.h>

#include <cmath>

#include "comm/error.h"
#include "models/language_model.h"
#include "models/positions.h"
#include "models/transformer_layer.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

constexpr std::int64_t most = 1 << 24;  // of any size

class TransformerLm final : public LanguageModel {
 public:
  TransformerLm(std::int64_t count, std::int64_t vocab, const TransformerShape& shape)
      : embedding(register_module("embedding", nn::Embedding(vocab, shape.width))),
        width_(shape.width),
        dropout_(shape.dropout) {
    const torch::NoGradGuard no_gradients;
    embedding->weight.normal_(0, 1 / std::sqrt(static_cast<double>(shape.width)));
    for (std::int64_t i = 0; i < count; ++i) {
      auto& layer = *layers.emplace_back(
          register_module("layer" + std::to_string(i), std::make_shared<TransformerLayer>(shape)));
      for (auto& linear : {layer.in_projection, layer.out_projection, layer.inner, layer.outer}) {
        nn::init::xavier_uniform_(linear->weight);
        nn::init::zeros_(linear->bias);
      }
    }
  }

 private:
  Tensor losses(const Batch& batch, double smoothing) override {
    const Tensor& tokens = batch.inputs.at(0);
    const auto type = embedding->weight.options();
    Tensor x = embedding(tokens) * std::sqrt(static_cast<double>(width_)) +
               sinusoids(torch::arange(tokens.size(1), type), width_);
    x = torch::dropout(x, dropout_, is_training());
    for (const auto& layer : layers) x = layer->forward_causal(x);
    const Tensor logits = torch::linear(x.flatten(0, 1), embedding->weight);
    return token_losses(logits, batch.target.flatten(), smoothing);
  }

  nn::Embedding embedding;
  std::vector<std::shared_ptr<TransformerLayer>> layers;
  std::int64_t width_;
  double dropout_;
};

std::shared_ptr<Model> make_transformer(const Values& values) {
  TransformerShape shape;
  shape.width = values.integer("hidden", 2, most);
  shape.heads = values.integer("heads", 1, most);
  shape.inner = values.integer("inner", 1, most);
  shape.dropout = values.number("dropout", 0, 0.99);
  shape.attention_dropout = shape.dropout;
  check_heads("transformer-lm", shape.width, shape.heads);
  if (shape.width % 2 != 0) {
    throw ConfigError("transformer-lm: hidden=" + values.text("hidden") +
                      ": half of it are sines, half cosines; take an even width");
  }
  return std::make_shared<TransformerLm>(values.integer("layers", 1, 1000), values.integer("vocab", 2, most),
                                         shape);
}

const bool registered = register_model(text_entry({
    .name = "transformer-lm",
    .summary = "Transformer over the words of a text, each sample by itself",
    .size = {155'999'232, 73},
    .small = "layers=2,hidden=32,heads=2,inner=64,vocab=50,seq=8,dropout=0",
    .keys = {{"layers", "6", "Transformer layers"},
             {"hidden", "512", "width of the layers, even"},
             {"heads", "8", "of attention; a divisor of hidden"},
             {"inner", "2048", "width between a layer's two linear ones"},
             {"dropout", "0.1", "of embeddings, attention weights and sublayers, 0 to 0.99"},
             {"vocab", "267744", "words; the data's, if not given"},
             {"seq", "128", "tokens of a sample"}},
    .data_sets = {"wikitext-103", "wikitext-2", "ptb", "text", "markov", "synthetic"},
    .defaults = {.optimizer = "adam:beta2=0.98",
                 .learning_rate = 5e-4,
                 .momentum = 0,
                 .clip = 0.25,
                 .schedule = "inverse-sqrt:from=1000",
                 .batch_size = 8,
                 .eval_batch_size = 8,
                 .epochs = 3},
    .make = make_transformer,
}));

}  // namespace
}  // namespace acp::models
