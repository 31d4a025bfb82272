// Neural collaborative filtering (He et al., WWW 2017): how likely a user takes an item, from generalised
// matrix factorisation (GMF), from a multi-layer perceptron (MLP), or from both (NeuMF, the paper's
// section 3.4).
#include <torch/nn/init.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <array>
#include <cmath>

#include "comm/error.h"
#include "models/model.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

constexpr std::int64_t most = std::int64_t{1} << 31;  // users or items

struct NcfOptions {
  bool gmf = true, mlp = true;
  std::int64_t users = 0, items = 0, factors = 0;
  std::vector<std::int64_t> widths;  // of the perceptron: its input (user and item side by side), its layers
  double dropout = 0;
};

NcfOptions ncf_options(const Values& values) {
  static const std::vector<std::string> forms{"neumf", "gmf", "mlp"};
  NcfOptions options;
  const std::string form = values.choice("form", forms);
  options.gmf = form != "mlp";
  options.mlp = form != "gmf";
  options.users = values.integer("users", 1, most);
  options.items = values.integer("items", 1, most);
  options.factors = values.integer("factors", 1, 1 << 20);
  options.dropout = values.number("dropout", 0, 0.99);
  for (const double width : values.list("mlp")) {
    if (width < 1 || width > 1 << 20 || width != std::floor(width)) {
      throw ConfigError("ncf: mlp=" + values.text("mlp") + ": widths are whole numbers from 1 to 1048576");
    }
    options.widths.push_back(static_cast<std::int64_t>(width));
  }
  if (options.widths.size() < 2 || options.widths[0] % 2 != 0) {
    throw ConfigError(
        "ncf: mlp=" + values.text("mlp") +
        ": the width of the input (even: half of it for the user, half for the item) and that of "
        "at least one layer are needed, as in 64/32/16/8");
  }
  return options;
}

class Ncf final : public Model {
 public:
  nn::Embedding gmf_user{nullptr}, gmf_item{nullptr}, mlp_user{nullptr}, mlp_item{nullptr};
  std::vector<nn::Linear> layers;
  nn::Dropout drop;
  nn::Linear out{nullptr};

  explicit Ncf(const NcfOptions& options) : drop(register_module("drop", nn::Dropout(options.dropout))) {
    std::int64_t width = 0;
    if (options.gmf) {
      gmf_user = embed("gmf_user", options.users, options.factors);
      gmf_item = embed("gmf_item", options.items, options.factors);
      width += options.factors;
    }
    if (options.mlp) {
      mlp_user = embed("mlp_user", options.users, options.widths[0] / 2);
      mlp_item = embed("mlp_item", options.items, options.widths[0] / 2);
      for (std::size_t i = 1; i < options.widths.size(); ++i) {
        layers.push_back(linear("layer" + std::to_string(i), options.widths[i - 1], options.widths[i]));
      }
      width += options.widths.back();
    }
    out = linear("out", width, 1);
  }

  void set_label_smoothing(double x) override { smoothing_ = x; }

  // Of each pair: log(p / (1 - p)). Two tensors of one shape; the result has it, too.
  Tensor forward(const Tensor& user, const Tensor& item) {
    std::vector<Tensor> parts;
    if (gmf_user) parts.push_back(gmf_user(user) * gmf_item(item));
    if (mlp_user) {
      Tensor x = torch::cat({mlp_user(user), mlp_item(item)}, -1);
      for (auto& layer : layers) x = drop(torch::relu(layer(x)));
      parts.push_back(x);
    }
    return out(parts.size() == 1 ? parts[0] : torch::cat(parts, -1)).squeeze(-1);
  }

  Tensor loss(const Batch& batch) override {
    const Tensor logits = forward(batch.inputs.at(0), batch.inputs.at(1));
    const Tensor target = batch.target.to(logits.scalar_type()) * (1 - smoothing_) + smoothing_ / 2;
    return torch::binary_cross_entropy_with_logits(logits, target);
  }

  Sums no_sums() const override {
    return {{"count", 0}, {"loss", 0}, {"correct", 0}, {"ranked", 0}, {"hits", 0}, {"ndcg", 0}};
  }

  // Samples are pairs with their 0 or 1, as in training, or a user's candidates, [size, candidates], of which
  // the one at the target's place is the true one.
  Sums evaluate(const Batch& batch) override {
    const Tensor logits = forward(batch.inputs.at(0), batch.inputs.at(1));
    Sums sums = no_sums();
    sums["count"] = static_cast<double>(batch.size);
    if (logits.dim() == 1) {
      const Tensor target = batch.target.to(logits.scalar_type());
      sums["loss"] =
          torch::binary_cross_entropy_with_logits(logits, target, {}, {}, at::Reduction::Sum).item<double>();
      sums["correct"] = ((logits > 0) == (batch.target > 0)).sum().item<double>();
      return sums;
    }
    const Tensor place = batch.target.unsqueeze(1);
    const Tensor target = torch::zeros_like(logits).scatter_(1, place, 1);
    sums["loss"] = torch::binary_cross_entropy_with_logits(logits, target, {}, {}, at::Reduction::None)
                       .mean(1)
                       .sum()
                       .item<double>();
    // Ties count against the model, and so does NaN.
    const Tensor below = (logits < logits.gather(1, place)).sum(1);
    const Tensor rank = logits.size(1) - 1 - below;
    const Tensor hit = rank < 10;
    sums["ranked"] = static_cast<double>(batch.size);
    sums["hits"] = hit.sum().item<double>();
    sums["ndcg"] = (hit / torch::log2(rank.to(at::kDouble) + 2)).sum().item<double>();
    return sums;
  }

  Metric metric(const Sums& sums) const override {
    if (sums.at("ranked") > 0) return {"HR@10", sums.at("hits") / sums.at("ranked"), true};
    return {"accuracy", 100 * sums.at("correct") / sums.at("count"), true};
  }

 private:
  nn::Embedding embed(const std::string& name, std::int64_t rows, std::int64_t width) {
    nn::Embedding embedding(rows, width);
    const torch::NoGradGuard no_gradients;
    embedding->weight.normal_(0, 0.01);
    return register_module(name, embedding);
  }

  nn::Linear linear(const std::string& name, std::int64_t in, std::int64_t width) {
    nn::Linear layer(in, width);
    nn::init::xavier_uniform_(layer->weight);
    nn::init::zeros_(layer->bias);
    return register_module(name, layer);
  }

  double smoothing_ = 0;
};

const bool registered = register_model({
    .name = "ncf",
    .summary = "neural collaborative filtering: NeuMF, GMF or MLP over users and items",
    .size = {107'761, 12},
    .small = "users=30,items=40,mlp=16/8/4",
    .keys = {{"form", "neumf", "neumf, gmf or mlp"},
             {"factors", "8", "width of the factorisation's embeddings"},
             {"mlp", "64/32/16/8", "widths of the perceptron: input (user and item), layers"},
             {"dropout", "0", "after each hidden layer of the perceptron, 0 to 0.99"},
             {"users", "943", "the data's, if not given"},
             {"items", "1682", "the data's, if not given"}},
    .data_sets = {"ml-100k", "ml-1m", "ml-20m", "synthetic"},
    .defaults = {.optimizer = "adam",
                 .learning_rate = 0.001,
                 .momentum = 0,
                 .batch_size = 256,
                 .eval_batch_size = 100,
                 .epochs = 10},
    .sample = [](const Values& values) -> SampleSpec {
      return {{{{}, values.integer("users", 1, most)}, {{}, values.integer("items", 1, most)}}, {{}, 2}};
    },
    .from_data = {{"users", [](const SampleSpec& sample) { return sample.inputs.at(0).classes; }},
                  {"items", [](const SampleSpec& sample) { return sample.inputs.at(1).classes; }}},
    .make = [](const Values& values) { return std::make_shared<Ncf>(ncf_options(values)); },
});

}  // namespace
}  // namespace acp::models
