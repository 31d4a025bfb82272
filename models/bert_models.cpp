// bert-base and bert-large: the encoder with a head for pretraining (masked words and next sentence), for
// masked words alone, or for classes of sentences.
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include "comm/error.h"
#include "models/bert.h"
#include "models/language_model.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

constexpr std::int64_t most = 1 << 24;  // of any size

// Words behind masks: a linear layer, GELU and a norm, then the embedding's own matrix with a bias.
class WordHead : public nn::Module {
 public:
  WordHead(std::int64_t hidden, std::int64_t vocab)
      : transform(register_module("transform", nn::Linear(hidden, hidden))),
        norm(register_module("norm", nn::LayerNorm(nn::LayerNormOptions({hidden}).eps(1e-12)))),
        bias(register_parameter("bias", torch::zeros({vocab}))) {}

  // [batch, time, hidden] -> [batch * time, vocab]
  Tensor forward(const Tensor& x, const Tensor& words) {
    return torch::linear(norm(torch::gelu(transform(x.flatten(0, 1)))), words, bias);
  }

 private:
  nn::Linear transform;
  nn::LayerNorm norm;
  Tensor bias;
};

// inputs {ids, mask}, target the word at each position, no_target where none is asked for.
class BertMaskedLm final : public LanguageModel {
 public:
  explicit BertMaskedLm(const BertShape& shape)
      : encoder(register_module("encoder", std::make_shared<BertEncoder>(shape))),
        head(register_module("head", std::make_shared<WordHead>(shape.hidden, shape.vocab))) {
    initialise_bert(*this);
  }

 private:
  Tensor losses(const Batch& batch, double smoothing) override {
    const Tensor x = encoder->forward(batch.inputs.at(0), {}, batch.inputs.at(1));
    return token_losses(head->forward(x, encoder->words->weight), batch.target.flatten(), smoothing);
  }

  std::shared_ptr<BertEncoder> encoder;
  std::shared_ptr<WordHead> head;
};

// inputs {ids, types, mask, next}: next [batch] is 1 where the second sentence does not follow the first; it
// is asked for, not read. target as for BertMaskedLm. The loss is the sum of both.
class BertPretraining final : public Model {
 public:
  explicit BertPretraining(const BertShape& shape)
      : encoder(register_module("encoder", std::make_shared<BertEncoder>(shape))),
        head(register_module("head", std::make_shared<WordHead>(shape.hidden, shape.vocab))),
        next(register_module("next", nn::Linear(shape.hidden, 2))) {
    initialise_bert(*this);
  }

  void set_label_smoothing(double x) override { smoothing_ = x; }

  Tensor loss(const Batch& batch) override {
    const auto [words, sentences] = forward(batch);
    return mean_of_tokens(token_losses(words, batch.target.flatten(), smoothing_), batch.target) +
           token_losses(sentences, batch.inputs.at(3), smoothing_).mean();
  }

  Sums no_sums() const override {
    return {{"count", 0}, {"loss", 0}, {"tokens", 0}, {"next_loss", 0}, {"next_correct", 0}};
  }

  Sums evaluate(const Batch& batch) override {
    const auto [words, sentences] = forward(batch);
    Sums sums = token_sums(token_losses(words, batch.target.flatten(), 0), batch);
    const Tensor& answer = batch.inputs.at(3);
    sums["next_loss"] = token_losses(sentences, answer, 0).sum().item<double>();
    sums["next_correct"] = (sentences.argmax(1) == answer).sum().item<double>();
    return sums;
  }

  Metric metric(const Sums& sums) const override { return perplexity(sums); }

 private:
  std::pair<Tensor, Tensor> forward(const Batch& batch) {
    const Tensor x = encoder->forward(batch.inputs.at(0), batch.inputs.at(1), batch.inputs.at(2));
    return {head->forward(x, encoder->words->weight), next(encoder->pooled(x))};
  }

  std::shared_ptr<BertEncoder> encoder;
  std::shared_ptr<WordHead> head;
  nn::Linear next;
  double smoothing_ = 0;
};

// inputs {ids, mask}, target the sentence's class.
class BertClassifier final : public Model {
 public:
  BertClassifier(const BertShape& shape, std::int64_t classes)
      : encoder(register_module("encoder", std::make_shared<BertEncoder>(shape))),
        out(register_module("out", nn::Linear(shape.hidden, classes))),
        dropout_(shape.dropout) {
    initialise_bert(*this);
  }

  void set_label_smoothing(double x) override { smoothing_ = x; }

  Tensor loss(const Batch& batch) override {
    return at::cross_entropy_loss(forward(batch), batch.target, {}, at::Reduction::Mean, no_target,
                                  smoothing_);
  }

  Sums no_sums() const override { return {{"count", 0}, {"loss", 0}, {"correct", 0}}; }

  Sums evaluate(const Batch& batch) override {
    const Tensor logits = forward(batch);
    return {{"count", static_cast<double>(batch.size)},
            {"loss", token_losses(logits, batch.target, 0).sum().item<double>()},
            {"correct", (logits.argmax(1) == batch.target).sum().item<double>()}};
  }

  Metric metric(const Sums& sums) const override {
    return {"accuracy", 100 * sums.at("correct") / sums.at("count"), true};
  }

 private:
  Tensor forward(const Batch& batch) {
    const Tensor x = encoder->forward(batch.inputs.at(0), {}, batch.inputs.at(1));
    return out(torch::dropout(encoder->pooled(x), dropout_, is_training()));
  }

  std::shared_ptr<BertEncoder> encoder;
  nn::Linear out;
  double dropout_, smoothing_ = 0;
};

std::string head_of(const Values& values) {
  static const std::vector<std::string> heads{"classify", "mlm", "pretrain"};
  return values.choice("head", heads);
}

SampleSpec bert_sample(const Values& values) {
  const std::int64_t seq = values.integer("seq", 1, most), vocab = values.integer("vocab", 2, most);
  const TensorSpec ids{{seq}, vocab}, flags{{seq}, 2};
  const std::string head = head_of(values);
  if (head == "classify") return {{ids, flags}, {{}, values.integer("classes", 2, most)}};
  if (head == "mlm") return {{ids, flags}, ids};
  return {{ids, flags, flags, {{}, 2}}, ids};
}

std::shared_ptr<Model> make_bert(const Values& values) {
  BertShape shape;
  shape.layers = values.integer("layers", 1, 1000);
  shape.hidden = values.integer("hidden", 1, most);
  shape.heads = values.integer("heads", 0, most);
  if (shape.heads == 0) shape.heads = std::max<std::int64_t>(shape.hidden / 64, 1);
  shape.inner = values.integer("inner", 0, most);
  if (shape.inner == 0) shape.inner = 4 * shape.hidden;
  shape.vocab = values.integer("vocab", 2, most);
  shape.positions = values.integer("positions", 1, most);
  shape.dropout = values.number("dropout", 0, 0.99);
  check_heads("bert", shape.hidden, shape.heads);
  if (const std::int64_t seq = values.integer("seq", 1, most); seq > shape.positions) {
    throw ConfigError("bert: seq=" + std::to_string(seq) + " is longer than positions=" +
                      std::to_string(shape.positions) + "; give positions=" + std::to_string(seq));
  }
  const std::string head = head_of(values);
  shape.pooler = head != "mlm";
  if (head == "mlm") return std::make_shared<BertMaskedLm>(shape);
  if (head == "pretrain") return std::make_shared<BertPretraining>(shape);
  return std::make_shared<BertClassifier>(shape, values.integer("classes", 2, most));
}

ModelInfo bert(const std::string& name, const std::string& layers, const std::string& hidden,
               ModelSize size) {
  return {
      .name = name,
      .summary = "BERT, " + layers + " layers of width " + hidden +
                 ", for classes of sentences or words behind masks",
      .size = size,
      .small = "layers=2,hidden=32,heads=2,vocab=60,seq=8",
      .keys = {{"head", "classify",
                "classify (sentences), mlm (words behind masks) or pretrain (and next sentence)"},
               {"layers", layers, "encoder layers"},
               {"hidden", hidden, "width of the layers"},
               {"heads", "0", "of attention; 0 = hidden / 64"},
               {"inner", "0", "width between a layer's two linear ones; 0 = 4 hidden"},
               {"vocab", "30522",
                "word pieces; the data's, if not given (published benchmarks pad to 30528)"},
               {"positions", "512", "longest sequence"},
               {"seq", "64", "word pieces of a sample"},
               {"classes", "2", "of head=classify; the data's, if not given"},
               {"dropout", "0.1", "of embeddings, attention weights and sublayers, 0 to 0.99"}},
      .data_sets = {"sst-2", "sentences", "synthetic"},
      .defaults = {.optimizer = "adamw",
                   .learning_rate = 5e-4,
                   .momentum = 0,
                   .weight_decay = 0.01,
                   .clip = 1,
                   .schedule = "linear",
                   .batch_size = 32,
                   .eval_batch_size = 32,
                   .epochs = 3},
      .sample = bert_sample,
      .from_data = {{"vocab", [](const SampleSpec& sample) { return sample.inputs.at(0).classes; }},
                    {"seq", [](const SampleSpec& sample) { return sample.inputs.at(0).shape.at(0); }},
                    {"classes", [](const SampleSpec& sample) { return sample.target.classes; }}},
      .make = make_bert,
  };
}

const bool registered = register_model(bert("bert-base", "12", "768", {109'483'778, 153})) &&
                        register_model(bert("bert-large", "24", "1024", {335'143'938, 297}));

}  // namespace
}  // namespace acp::models
