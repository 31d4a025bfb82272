// Small models and helpers that the API tests share.
#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

namespace acp::test {

// A stack of linear layers with tanh in between.
struct MlpImpl : torch::nn::Module {
  explicit MlpImpl(std::vector<std::int64_t> widths = {6, 8, 7, 3}) {
    for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
      layers.push_back(
          register_module("layer" + std::to_string(i), torch::nn::Linear(widths[i], widths[i + 1])));
    }
  }
  torch::Tensor forward(torch::Tensor x) {
    for (std::size_t i = 0; i < layers.size(); ++i) {
      x = layers[i]->forward(x);
      if (i + 1 < layers.size()) x = torch::tanh(x);
    }
    return x;
  }
  std::vector<torch::nn::Linear> layers;
};
TORCH_MODULE(Mlp);

// The same on every rank: the global generator belongs to the process, and ranks may be threads of one.
inline Mlp make_mlp(std::uint64_t seed = 1, std::vector<std::int64_t> widths = {6, 8, 7, 3}) {
  Mlp model(std::move(widths));
  auto generator = at::detail::createCPUGenerator(seed);
  const torch::NoGradGuard no_grad;
  for (auto& p : model->parameters()) p.normal_(0, 0.3, generator);
  return model;
}

// Numbers that depend on what is asked for alone.
inline torch::Tensor numbers(std::uint64_t seed, std::vector<std::int64_t> shape) {
  auto generator = at::detail::createCPUGenerator(seed);
  return torch::randn(shape, generator);
}

inline torch::Tensor flatten(const std::vector<torch::Tensor>& tensors) {
  std::vector<torch::Tensor> flat;
  for (const auto& t : tensors) flat.push_back(t.detach().reshape(-1).to(torch::kDouble));
  return torch::cat(flat);
}

// Fails the rank (and so the test) with a message; Catch's own macros are not thread-safe.
inline void require(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error("check failed: " + what);
}

// The message of the exception that `body` throws, or "" if it throws none.
template <class Error, class Body>
std::string message_of(Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace acp::test
