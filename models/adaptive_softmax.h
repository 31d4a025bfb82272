// Adaptive softmax (Grave et al., "Efficient softmax approximation for GPUs", ICML 2017) with the embedding's
// matrix as its weights: the frequent words share one softmax with the clusters of the rare ones, and a
// cluster is looked into only where one of its words is the target.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <vector>

namespace acp::models {

class AdaptiveSoftmax : public torch::nn::Module {
 public:
  // Words are numbered by falling frequency. Cluster i has the words cutoffs[i] ... cutoffs[i + 1] - 1, the
  // last one the rest; without cut-offs it is the plain softmax. ConfigError unless they increase within 1
  // ... vocab - 1.
  AdaptiveSoftmax(std::int64_t width, std::int64_t vocab, std::vector<std::int64_t> cutoffs);

  // -log p(target): x [n, width], words [vocab, width], target int64 [n], 0 where it is no_target; result
  // [n].
  at::Tensor forward(const at::Tensor& x, const at::Tensor& words, const at::Tensor& target);

 private:
  std::vector<std::int64_t> bounds_;              // cut-offs and vocab
  at::Tensor bias, cluster_weight, cluster_bias;  // [vocab], [clusters, width], [clusters]
};

}  // namespace acp::models
