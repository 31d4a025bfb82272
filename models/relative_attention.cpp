// See relative_attention.h.
#include "models/relative_attention.h"

#include <torch/types.h>

#include <cmath>
#include <limits>

namespace acp::models {

namespace nn = torch::nn;
using at::Tensor;

namespace {

nn::Linear without_bias(std::int64_t in, std::int64_t out) {
  return nn::Linear(nn::LinearOptions(in, out).bias(false));
}

// Scores by distance [.., time, keys], columns by falling distance as of the last query: column c of row i is
// meant for key c - (time - 1 - i). Puts each where its key is; what comes from outside a row is behind the
// query and so masked. Padded with one column in front, row i begins i places later in memory than a row of
// the result does (Dai et al., appendix B).
Tensor shift(const Tensor& scores) {
  auto shape = scores.sizes().vec();
  const std::int64_t time = shape[2], keys = shape[3];
  const Tensor padded = at::constant_pad_nd(scores, {1, 0});
  return padded.view({shape[0], shape[1], keys + 1, time})
      .narrow(2, 1, keys)
      .reshape({shape[0], shape[1], time, keys});
}

}  // namespace

RelativeAttention::RelativeAttention(std::int64_t width, std::int64_t heads, double dropout)
    : in_projection(register_module("in_projection", without_bias(width, 3 * width))),
      distance_projection(register_module("distance_projection", without_bias(width, width))),
      out_projection(register_module("out_projection", without_bias(width, width))),
      width_(width),
      heads_(heads),
      dropout_(dropout) {}

std::vector<Tensor> RelativeAttention::split(const Tensor& x, std::int64_t parts) const {
  return x.view({x.size(0), x.size(1), parts, heads_, width_ / heads_}).permute({2, 0, 3, 1, 4}).unbind(0);
}

Tensor RelativeAttention::forward(const Tensor& x, const Tensor& memory, const RelativePositions& positions) {
  const std::int64_t batch = x.size(0), time = x.size(1), remembered = memory.size(1),
                     keys = remembered + time;
  const auto own = split(in_projection(x), 3);
  Tensor key = own[1], value = own[2];
  if (remembered > 0) {
    const auto old = split(torch::linear(memory, in_projection->weight.narrow(0, width_, 2 * width_)), 2);
    key = torch::cat({old[0], key}, 2);
    value = torch::cat({old[1], value}, 2);
  }
  const Tensor distance = split(distance_projection(positions.distances).unsqueeze(0), 1)[0];

  const double scale = 1 / std::sqrt(static_cast<double>(width_ / heads_));
  const Tensor by_content = torch::matmul(own[0] + positions.u.unsqueeze(1), key.transpose(2, 3));
  const Tensor by_distance = torch::matmul(own[0] + positions.v.unsqueeze(1), distance.transpose(2, 3));
  const Tensor behind = torch::ones({time, keys}, x.options().dtype(torch::kBool)).triu_(remembered + 1);
  const Tensor scores = (by_content + shift(by_distance))
                            .mul_(scale)
                            .masked_fill_(behind, -std::numeric_limits<double>::infinity());
  const Tensor weights = torch::dropout(torch::softmax(scores, 3), dropout_, is_training());
  const Tensor seen = torch::matmul(weights, value).transpose(1, 2).reshape({batch, time, width_});
  return out_projection(seen);
}

}  // namespace acp::models
