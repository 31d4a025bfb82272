// Layers of the language models against direct loops: attention, attention by distance, the adaptive softmax.
#include <torch/torch.h>

#include <cmath>

#include "comm/error.h"
#include "models/adaptive_softmax.h"
#include "models/positions.h"
#include "models/relative_attention.h"
#include "models/transformer_layer.h"
#include "tests/catch.h"

namespace acp::models {
namespace {

using at::Tensor;

constexpr std::int64_t rows = 2, time_steps = 5, width = 6, heads = 2, per_head = width / heads;

Tensor random(std::vector<std::int64_t> shape) {
  return torch::randn(shape, torch::kDouble);
}

bool near(const Tensor& a, const Tensor& b) {
  return torch::allclose(a, b, 1e-10, 1e-12);
}

// Of one row: queries [time, width], keys and values [keys, width]; score(head, i, j, q, k) of query i and
// key j.
template <class Score>
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Score& score) {
  const Tensor out = torch::zeros({q.size(0), width}, torch::kDouble);
  for (std::int64_t head = 0; head < heads; ++head) {
    const auto of = [head](const Tensor& x, std::int64_t i) {
      return x[i].narrow(0, head * per_head, per_head);
    };
    for (std::int64_t i = 0; i < q.size(0); ++i) {
      std::vector<Tensor> scores;
      for (std::int64_t j = 0; j < k.size(0); ++j) scores.push_back(score(head, i, j, of(q, i), of(k, j)));
      const Tensor weights = torch::softmax(torch::stack(scores), 0);
      for (std::int64_t j = 0; j < k.size(0); ++j) of(out, i).add_(weights[j] * of(v, j));
    }
  }
  return out;
}

const Tensor hidden = torch::tensor(-std::numeric_limits<double>::infinity());

}  // namespace

TEST_CASE("sinusoids of positions", "[api][language-layers]") {
  const Tensor x = sinusoids(torch::tensor({0.0, 3.0}, torch::kDouble), 4);
  CHECK(near(x[0], torch::tensor({0.0, 0.0, 1.0, 1.0}, torch::kDouble)));
  CHECK(near(x[1],
             torch::tensor({std::sin(3.0), std::sin(0.03), std::cos(3.0), std::cos(0.03)}, torch::kDouble)));
}

TEST_CASE("the Transformer layer against a loop", "[api][language-layers]") {
  torch::manual_seed(11);
  const torch::NoGradGuard no_gradients;
  TransformerShape shape{width, heads, 7};
  shape.activation = Activation::gelu;
  TransformerLayer layer(shape);
  layer.to(torch::kDouble);
  for (auto& p : layer.parameters()) p.add_(torch::randn_like(p), 0.3);
  const Tensor x = random({rows, time_steps, width});
  const Tensor mask = torch::zeros({rows, 1, 1, time_steps}, torch::kDouble);
  mask[1][0][0][2] = -1e9;

  for (const bool causal : {false, true}) {
    const Tensor out =
        causal ? layer.forward_causal(x) : layer.forward(x, mask.expand({-1, 1, time_steps, -1}));
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto parts = layer.in_projection(x[row]).chunk(3, 1);
      const Tensor seen =
          attend(parts[0], parts[1], parts[2], [&](auto, auto i, auto j, const Tensor& q, const Tensor& k) {
            const bool visible = causal ? j <= i : row != 1 || j != 2;
            return visible ? q.dot(k) / std::sqrt(per_head) : hidden;
          });
      const Tensor y = layer.attention_norm(x[row] + layer.out_projection(seen));
      const Tensor wide = layer.inner(y);
      const Tensor gelu = wide * 0.5 * (1 + torch::erf(wide / std::sqrt(2.0)));
      CHECK(near(out[row], layer.norm(y + layer.outer(gelu))));
    }
  }
  CHECK_THROWS_WITH(check_heads("m", 10, 4), ContainsSubstring("m: 4 heads do not divide the width 10"));
}

TEST_CASE("attention by distance against a loop, and its gradients", "[api][language-layers]") {
  torch::manual_seed(12);
  for (const std::int64_t remembered : {0, 1, 4, 9}) {
    INFO(remembered);
    RelativeAttention attention(width, heads, 0);
    attention.to(torch::kDouble);
    const std::int64_t keys = remembered + time_steps;
    const auto learnt = [](std::vector<std::int64_t> shape) {
      return random(std::move(shape)).requires_grad_();
    };
    const Tensor x = learnt({rows, time_steps, width}), memory = random({rows, remembered, width});
    const RelativePositions positions{learnt({heads, per_head}), learnt({heads, per_head}),
                                      sinusoids(torch::arange(keys - 1, -1, -1, torch::kDouble), width)};
    const Tensor out = attention.forward(x, memory, positions);
    {
      const torch::NoGradGuard no_gradients;
      for (std::int64_t row = 0; row < rows; ++row) {
        const auto parts = attention.in_projection(torch::cat({memory[row], x[row]})).chunk(3, 1);
        const Tensor query = parts[0].narrow(0, remembered, time_steps);
        const auto score = [&](std::int64_t head, std::int64_t i, std::int64_t j, const Tensor& q,
                               const Tensor& k) {
          const std::int64_t distance = remembered + i - j;
          if (distance < 0) return hidden;
          const Tensor r = attention.distance_projection(
              sinusoids(torch::full({1}, static_cast<double>(distance), torch::kDouble), width))[0];
          return ((q + positions.u[head]).dot(k) +
                  (q + positions.v[head]).dot(r.narrow(0, head * per_head, per_head))) /
                 std::sqrt(per_head);
        };
        CHECK(near(out[row], attention.out_projection(attend(query, parts[1], parts[2], score))));
      }
    }

    const Tensor direction = random({rows, time_steps, width});
    (out * direction).sum().backward();
    const torch::NoGradGuard no_gradients;
    auto all = attention.parameters();
    all.insert(all.end(), {x, positions.u, positions.v});
    for (const Tensor& p : all) {
      const Tensor flat = p.view({-1});
      for (int pick = 0; pick < 4; ++pick) {
        const std::int64_t i = pick * (flat.numel() - 1) / 3;
        const double value = flat[i].item<double>(), step = 1e-5;
        const auto at = [&](double moved) {
          flat[i] = moved;
          return (attention.forward(x, memory, positions) * direction).sum().item<double>();
        };
        const double difference = (at(value + step) - at(value - step)) / (2 * step);
        flat[i] = value;
        CHECK(p.grad().view({-1})[i].item<double>() == Approx(difference).epsilon(1e-6).margin(1e-9));
      }
    }
  }
}

TEST_CASE("the adaptive softmax is a distribution, by its formula", "[api][language-layers]") {
  torch::manual_seed(13);
  const std::int64_t vocab = 11;
  const torch::NoGradGuard no_gradients;
  AdaptiveSoftmax softmax(width, vocab, {4, 7});
  softmax.to(torch::kDouble);
  for (auto& p : softmax.parameters()) p.normal_();
  auto p = softmax.named_parameters();
  const Tensor words = random({vocab, width}), x = random({3, width});
  Tensor total = torch::zeros({3}, torch::kDouble);
  const Tensor own = torch::linear(x, words, p["bias"]);
  const Tensor clusters = torch::linear(x, p["cluster_weight"], p["cluster_bias"]);
  const Tensor first = torch::cat({own.narrow(1, 0, 4), clusters}, 1).log_softmax(1);
  for (std::int64_t word = 0; word < vocab; ++word) {
    Tensor expected = first.select(1, word < 4 ? word : word < 7 ? 4 : 5);
    if (word >= 4) {
      const std::int64_t begin = word < 7 ? 4 : 7, size = word < 7 ? 3 : 4;
      expected = expected + own.narrow(1, begin, size).log_softmax(1).select(1, word - begin);
    }
    const Tensor losses = softmax.forward(x, words, torch::full({3}, word));
    CHECK(near(losses, -expected));
    total += (-losses).exp();
  }
  CHECK(near(total, torch::ones({3}, torch::kDouble)));

  // Targets of all kinds side by side give what each gives alone.
  const Tensor mixed = softmax.forward(x, words, torch::tensor({9, -100, 2}));
  CHECK(near(mixed[0], softmax.forward(x, words, torch::full({3}, 9))[0]));
  CHECK(mixed[1].item<double>() == 0);
  CHECK(near(mixed[2], softmax.forward(x, words, torch::full({3}, 2))[2]));

  AdaptiveSoftmax plain(width, vocab, {});
  plain.to(torch::kDouble);
  CHECK(plain.parameters().size() == 1);
  const Tensor target = torch::tensor({9, 0, 2});
  const Tensor expected = torch::linear(x, words).log_softmax(1).gather(1, target.unsqueeze(1)).squeeze(1);
  CHECK(near(plain.forward(x, words, target), -expected));
  for (const auto& cutoffs : std::vector<std::vector<std::int64_t>>{{0, 3}, {3, 3}, {5, 4}, {4, 11}})
    CHECK_THROWS_AS(AdaptiveSoftmax(width, vocab, cutoffs), ConfigError);
}

}  // namespace acp::models
