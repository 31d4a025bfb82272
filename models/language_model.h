// What all models of the next token share: the loss over tokens, the perplexity, the shapes of text.
#pragma once

#include "models/model.h"

namespace acp::models {

// The target of a position without a next token (padding at the end of an evaluation).
constexpr std::int64_t no_target = -100;

// Losses of tokens: -log p of each, 0 where the target is no_target.
// logits [n, classes], target int64 [n]; result [n]. `smoothing` as in Model::set_label_smoothing().
at::Tensor token_losses(const at::Tensor& logits, const at::Tensor& target, double smoothing);

// Mean over the tokens that have a target; 0 if none has.
at::Tensor mean_of_tokens(const at::Tensor& losses, const at::Tensor& target);

// The sums "count" (samples), "tokens" (that have a target) and "loss" (over tokens), of which perplexity()
// is exp(loss / tokens).
Sums token_sums(const at::Tensor& losses, const Batch& batch);
Metric perplexity(const Sums& sums);

// With what the keys "vocab" and "seq", which all language models have, say of a sample (ModelInfo::sample,
// from_data): input int64 [seq] of `vocab` classes, target int64 [seq]: each token's next one.
ModelInfo text_entry(ModelInfo info);

// A model that reads tokens from left to right and gives the next one's probability. The training loss is the
// mean over tokens, the metric the perplexity.
class LanguageModel : public Model {
 public:
  void set_label_smoothing(double x) override { smoothing_ = x; }
  at::Tensor loss(const Batch& batch) override;
  Sums no_sums() const override;
  Sums evaluate(const Batch& batch) override;
  Metric metric(const Sums& sums) const override;

 private:
  // As token_losses(): one number for each of the batch's targets, in any order.
  virtual at::Tensor losses(const Batch& batch, double smoothing) = 0;

  double smoothing_ = 0;
};

}  // namespace acp::models
