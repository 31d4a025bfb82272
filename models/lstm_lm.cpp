// The LSTM language model of Zaremba, Sutskever, Vinyals ("Recurrent neural network regularization", 2014):
// embedding, LSTM layers with dropout between them, a linear layer over the vocabulary. The state is carried
// from batch to batch, gradients are not (truncated backpropagation through time).
#include <torch/nn/init.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/rnn.h>

#include <tuple>

#include "comm/error.h"
#include "models/language_model.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

constexpr std::int64_t most = 1 << 24;  // of any size

struct LstmOptions {
  std::int64_t layers = 0, embedding = 0, hidden = 0, vocab = 0;
  double dropout = 0;
  bool tied = false;
};

LstmOptions lstm_options(const Values& values) {
  LstmOptions options;
  options.layers = values.integer("layers", 1, 1000);
  options.hidden = values.integer("hidden", 1, most);
  options.embedding = values.integer("embedding", 0, most);
  if (options.embedding == 0) options.embedding = options.hidden;
  options.vocab = values.integer("vocab", 2, most);
  options.dropout = values.number("dropout", 0, 0.99);
  options.tied = values.boolean("tied");
  if (options.tied && options.embedding != options.hidden) {
    throw ConfigError("lstm-lm: tied=" + values.text("tied") + " needs embedding = hidden, and they are " +
                      std::to_string(options.embedding) + " and " + std::to_string(options.hidden) +
                      "; leave embedding out");
  }
  return options;
}

class LstmLm final : public LanguageModel {
 public:
  explicit LstmLm(const LstmOptions& options)
      : embedding(register_module("embedding", nn::Embedding(options.vocab, options.embedding))),
        lstm(register_module("lstm", nn::LSTM(nn::LSTMOptions(options.embedding, options.hidden)
                                                  .num_layers(options.layers)
                                                  .dropout(options.layers > 1 ? options.dropout : 0)))),
        drop(register_module("drop", nn::Dropout(options.dropout))) {
    constexpr double range = 0.1;
    const torch::NoGradGuard no_gradients;
    embedding->weight.uniform_(-range, range);
    decoder_bias = register_parameter("decoder_bias", torch::zeros({options.vocab}));
    decoder_weight =
        options.tied
            ? embedding->weight
            : register_parameter("decoder_weight",
                                 torch::empty({options.vocab, options.hidden}).uniform_(-range, range));
  }

  std::vector<Tensor> carried() const override {
    if (!state_) return {};
    return {std::get<0>(*state_), std::get<1>(*state_)};
  }
  void carry(std::vector<Tensor> state) override {
    state_ = {};
    if (state.size() == 2) state_ = {state[0], state[1]};
  }

 private:
  // Time comes first inside: the LSTM's own order, in which no step has to gather its rows.
  Tensor losses(const Batch& batch, double smoothing) override {
    const Tensor tokens = batch.inputs.at(0).t();
    carry_to(tokens.size(1));
    auto [out, state] = lstm(drop(embedding(tokens)), state_);
    state_ = {std::get<0>(state).detach(), std::get<1>(state).detach()};
    const Tensor logits = torch::linear(drop(out), decoder_weight, decoder_bias);
    return token_losses(logits.flatten(0, 1), batch.target.t().flatten(), smoothing);
  }

  // At the end of an evaluation batches have fewer rows: the first ones go on.
  void carry_to(std::int64_t rows) {
    if (!state_) return;
    const std::int64_t carried = std::get<0>(*state_).size(1);
    if (rows == carried) return;
    if (rows > carried) {
      throw Error("lstm-lm: a batch of " + std::to_string(rows) + " rows follows one of " +
                  std::to_string(carried) + "; call reset_state() before a new walk through the text");
    }
    const auto first = [rows](const Tensor& x) { return x.narrow(1, 0, rows).contiguous(); };
    state_ = {first(std::get<0>(*state_)), first(std::get<1>(*state_))};
  }

  nn::Embedding embedding;
  nn::LSTM lstm;
  nn::Dropout drop;
  Tensor decoder_weight, decoder_bias;
  std::optional<std::tuple<Tensor, Tensor>> state_;  // h and c, [layers, rows, hidden]
};

const bool registered = register_model(text_entry({
    .name = "lstm-lm",
    .summary = "LSTM over the words of a text, state carried from batch to batch",
    .size = {19'780'400, 11},
    .small = "layers=2,hidden=24,vocab=50,seq=8,dropout=0",
    .keys = {{"layers", "2", "LSTM layers"},
             {"embedding", "0", "width of the embedding; 0 = hidden"},
             {"hidden", "650", "width of the layers"},
             {"dropout", "0.5", "before, between and after the layers, 0 to 0.99"},
             {"tied", "off", "one matrix for the embedding and the output"},
             {"vocab", "10000", "words; the data's, if not given"},
             {"seq", "35", "tokens of a sample, through which gradients go"}},
    .data_sets = {"ptb", "wikitext-103", "wikitext-2", "text", "markov", "synthetic"},
    .defaults = {.learning_rate = 20,
                 .momentum = 0,
                 .clip = 0.25,
                 .schedule = "plateau:patience=0,gamma=0.25",
                 .batch_size = 20,
                 .eval_batch_size = 10,
                 .epochs = 6},
    .make = [](const Values& values) { return std::make_shared<LstmLm>(lstm_options(values)); },
}));

}  // namespace
}  // namespace acp::models
