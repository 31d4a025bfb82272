// The encoder of BERT (Devlin et al., NAACL 2019), without heads.
#pragma once

#include <torch/nn/modules/embedding.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "models/transformer_layer.h"

namespace acp::models {

struct BertShape {
  std::int64_t layers = 0, hidden = 0, heads = 0, inner = 0, vocab = 0;
  std::int64_t positions = 0;  // the longest sequence
  double dropout = 0;
  bool pooler = true;
};

// All matrices and embeddings normal with deviation 0.02, biases 0.
void initialise_bert(torch::nn::Module& module);

class BertEncoder : public torch::nn::Module {
 public:
  explicit BertEncoder(const BertShape& shape);

  // ids, mask (1 = token, 0 = padding) and, if defined, types (0 or 1; else all 0): int64 [batch, time], time
  // at most `positions`. Result [batch, time, hidden].
  at::Tensor forward(const at::Tensor& ids, const at::Tensor& types, const at::Tensor& mask);
  // tanh of a linear layer on the first position: [batch, hidden]. Needs shape.pooler.
  at::Tensor pooled(const at::Tensor& encoded);

  torch::nn::Embedding words, positions, types;
  torch::nn::LayerNorm norm;
  std::vector<std::shared_ptr<TransformerLayer>> layers;
  torch::nn::Linear pooler{nullptr};

 private:
  double dropout_;
};

}  // namespace acp::models
