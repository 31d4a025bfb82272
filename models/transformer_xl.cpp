// Transformer-XL (Dai et al., ACL 2019): each layer sees the last segments' hidden states, by distance; the
// output is an adaptive softmax over the embedding's own matrix.
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <cmath>

#include "comm/error.h"
#include "models/adaptive_softmax.h"
#include "models/language_model.h"
#include "models/positions.h"
#include "models/relative_attention.h"
#include "models/transformer_layer.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

constexpr std::int64_t most = 1 << 24;  // of any size

struct XlOptions {
  std::int64_t layers = 0, hidden = 0, heads = 0, inner = 0, vocab = 0, memory = 0;
  std::vector<std::int64_t> cutoffs;
  double dropout = 0, attention_dropout = 0;
};

XlOptions xl_options(const Values& values) {
  XlOptions options;
  options.layers = values.integer("layers", 1, 1000);
  options.hidden = values.integer("hidden", 2, most);
  options.heads = values.integer("heads", 1, most);
  options.inner = values.integer("inner", 1, most);
  options.vocab = values.integer("vocab", 2, most);
  options.memory = values.integer("mem", 0, most);
  options.dropout = values.number("dropout", 0, 0.99);
  options.attention_dropout = values.number("attention_dropout", 0, 0.99);
  check_heads("transformer-xl", options.hidden, options.heads);
  if (options.hidden % 2 != 0) {
    throw ConfigError("transformer-xl: hidden=" + values.text("hidden") +
                      ": half of it are sines, half cosines; take an even width");
  }
  double last = 0;
  for (const double cutoff : values.list("cutoffs")) {
    if (cutoff <= last || cutoff != std::floor(cutoff)) {
      throw ConfigError("transformer-xl: cutoffs=" + values.text("cutoffs") +
                        ": increasing whole numbers of at least 1 are needed, as in 2000/10000");
    }
    last = cutoff;
    if (cutoff < static_cast<double>(options.vocab))
      options.cutoffs.push_back(static_cast<std::int64_t>(cutoff));
  }
  return options;
}

// Attention over memory and segment, then two linear layers; each added to what comes in, and normalised.
class XlLayer : public nn::Module {
 public:
  explicit XlLayer(const XlOptions& o)
      : attention(register_module(
            "attention", std::make_shared<RelativeAttention>(o.hidden, o.heads, o.attention_dropout))),
        inner(register_module("inner", nn::Linear(o.hidden, o.inner))),
        outer(register_module("outer", nn::Linear(o.inner, o.hidden))),
        attention_norm(register_module("attention_norm", nn::LayerNorm(nn::LayerNormOptions({o.hidden})))),
        norm(register_module("norm", nn::LayerNorm(nn::LayerNormOptions({o.hidden})))),
        dropout_(o.dropout) {}

  Tensor forward(const Tensor& x, const Tensor& memory, const RelativePositions& positions) {
    const Tensor y = attention_norm(x + drop(attention->forward(x, memory, positions)));
    return norm(y + drop(outer(drop(torch::relu(inner(y))))));
  }

 private:
  Tensor drop(const Tensor& x) const { return torch::dropout(x, dropout_, is_training()); }

  std::shared_ptr<RelativeAttention> attention;
  nn::Linear inner, outer;
  nn::LayerNorm attention_norm, norm;
  double dropout_;
};

class TransformerXl final : public LanguageModel {
 public:
  explicit TransformerXl(const XlOptions& o)
      : embedding(register_module("embedding", nn::Embedding(o.vocab, o.hidden))),
        softmax(register_module("softmax", std::make_shared<AdaptiveSoftmax>(o.hidden, o.vocab, o.cutoffs))),
        u(register_parameter("u", torch::zeros({o.heads, o.hidden / o.heads}))),
        v(register_parameter("v", torch::zeros({o.heads, o.hidden / o.heads}))),
        hidden_(o.hidden),
        most_memory_(o.memory),
        dropout_(o.dropout) {
    for (std::int64_t i = 0; i < o.layers; ++i) {
      layers.push_back(register_module("layer" + std::to_string(i), std::make_shared<XlLayer>(o)));
    }
    // As the authors do: all matrices normal with deviation 0.02, biases 0.
    const torch::NoGradGuard no_gradients;
    for (auto& item : named_parameters()) {
      const bool norm = item.key().find("norm") != std::string::npos;
      if (item.value().dim() > 1)
        item.value().normal_(0, 0.02);
      else if (!norm)
        item.value().zero_();
    }
  }

  // Words of a cluster share out its probability, so there is no "all other classes" to smooth over.
  void set_label_smoothing(double x) override {
    if (x != 0) throw ConfigError("label smoothing: the adaptive softmax of transformer-xl has none");
  }

  std::vector<Tensor> carried() const override { return memory_; }
  void carry(std::vector<Tensor> state) override { memory_ = std::move(state); }

 private:
  Tensor losses(const Batch& batch, double) override {
    const Tensor& tokens = batch.inputs.at(0);
    const std::int64_t rows = tokens.size(0), time = tokens.size(1);
    Tensor x = drop(embedding(tokens) * std::sqrt(static_cast<double>(hidden_)));
    carry_to(rows, x);
    const Tensor distance =
        torch::arange(memory_[0].size(1) + time - 1, -1, -1, x.options().requires_grad(false));
    const RelativePositions positions{u, v, drop(sinusoids(distance, hidden_))};
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const Tensor memory = memory_[i];
      memory_[i] = remember(memory, x);
      x = layers[i]->forward(x, memory, positions);
    }
    return softmax->forward(drop(x).flatten(0, 1), embedding->weight, batch.target.flatten());
  }

  // At the end of an evaluation batches have fewer rows: the first ones go on.
  void carry_to(std::int64_t rows, const Tensor& like) {
    if (memory_.empty())
      memory_.assign(layers.size(), at::empty({rows, 0, hidden_}, like.options().requires_grad(false)));
    const std::int64_t carried = memory_[0].size(0);
    if (rows > carried) {
      throw Error("transformer-xl: a batch of " + std::to_string(rows) + " rows follows one of " +
                  std::to_string(carried) + "; call reset_state() before a new walk through the text");
    }
    for (Tensor& memory : memory_) memory = memory.narrow(0, 0, rows);
  }

  // The last states, without their gradients.
  Tensor remember(const Tensor& memory, const Tensor& x) const {
    const Tensor all = torch::cat({memory, x.detach()}, 1);
    const std::int64_t kept = std::min(all.size(1), most_memory_);
    return all.narrow(1, all.size(1) - kept, kept).contiguous();
  }

  Tensor drop(const Tensor& x) const { return torch::dropout(x, dropout_, is_training()); }

  nn::Embedding embedding;
  std::vector<std::shared_ptr<XlLayer>> layers;
  std::shared_ptr<AdaptiveSoftmax> softmax;
  Tensor u, v;
  std::int64_t hidden_, most_memory_;
  double dropout_;
  std::vector<Tensor> memory_;  // per layer, what came into it: [rows, at most most_memory_, hidden]
};

const bool registered = register_model(text_entry({
    .name = "transformer-xl",
    .summary = "Transformer-XL: memory of the last segments, relative positions, adaptive softmax",
    .size = {191'950'298, 182},
    .small = "layers=2,hidden=32,heads=2,inner=64,vocab=60,cutoffs=20/40,seq=8,mem=8,dropout=0",
    .keys = {{"layers", "16", "Transformer layers"},
             {"hidden", "512", "width of the layers, even"},
             {"heads", "8", "of attention; a divisor of hidden"},
             {"inner", "2048", "width between a layer's two linear ones"},
             {"dropout", "0.1", "of embeddings, distances and sublayers, 0 to 0.99"},
             {"attention_dropout", "0", "of attention weights, 0 to 0.99"},
             {"cutoffs", "19997/39997/199997",
              "first words of the rare words' clusters; those beyond vocab do not count"},
             {"vocab", "267735", "words by falling frequency; the data's, if not given"},
             {"seq", "192", "tokens of a sample, through which gradients go"},
             {"mem", "192", "tokens before them that each layer sees; 0 = none"}},
    .data_sets = {"wikitext-103", "wikitext-2", "ptb", "text", "markov", "synthetic"},
    .defaults = {.optimizer = "adam",
                 .learning_rate = 2.5e-4,
                 .momentum = 0,
                 .clip = 0.25,
                 .schedule = "cosine",
                 .batch_size = 8,
                 .eval_batch_size = 8,
                 .epochs = 3},
    .make = [](const Values& values) { return std::make_shared<TransformerXl>(xl_options(values)); },
}));

}  // namespace
}  // namespace acp::models
