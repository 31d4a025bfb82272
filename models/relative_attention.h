// Attention by content and distance, over the segment and what is remembered of those before it (Dai et al.,
// "Transformer-XL: attentive language models beyond a fixed-length context", ACL 2019, section 3.3).
#pragma once

#include <torch/nn/modules/linear.h>

#include <cstdint>

namespace acp::models {

// What all layers share: the score of a query q and a key k at distance d is (q + u) k + (q + v) W
// sinusoid(d).
struct RelativePositions {
  at::Tensor u, v;       // [heads, width / heads]
  at::Tensor distances;  // sinusoids of keys - 1, ..., 1, 0: [keys, width]
};

class RelativeAttention : public torch::nn::Module {
 public:
  // `dropout` of the attention's weights. Heads divide the width. The matrices have no bias.
  RelativeAttention(std::int64_t width, std::int64_t heads, double dropout);

  // x [batch, time, width], memory [batch, remembered, width] (remembered may be 0); positions of remembered
  // + time keys. Position i of x sees the memory and positions 0 ... i of x. Result [batch, time, width].
  at::Tensor forward(const at::Tensor& x, const at::Tensor& memory, const RelativePositions& positions);

  // Queries, keys and values, [3 width, width]; W; what comes out.
  torch::nn::Linear in_projection, distance_projection, out_projection;

 private:
  // [batch, time, parts width] -> parts of [batch, heads, time, width / heads]
  std::vector<at::Tensor> split(const at::Tensor& x, std::int64_t parts) const;

  std::int64_t width_, heads_;
  double dropout_;
};

}  // namespace acp::models
