// What convolutional networks are made of beside torch's own layers, and their initialisation.
#pragma once

#include <torch/enum.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/pimpl.h>

#include <cstdint>

namespace acp::models {

// `channels` times a network's `width`, rounded; at least 1.
std::int64_t scaled(std::int64_t channels, double width);

// A square convolution without bias, as goes before a batch norm. Padding keeps the image's size at stride 1.
torch::nn::Conv2d conv(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride = 1);

// These overwrite their input: it must be an intermediate result that its producer does not need for its
// gradient, as the output of a convolution, a linear layer or a batch norm.
at::Tensor relu_in_place(const at::Tensor& x);
at::Tensor relu6_in_place(const at::Tensor& x);

at::Tensor global_average(const at::Tensor& x);  // [n, c, h, w] -> [n, c]

// Windows of `kernel` x `kernel`, or as large as the image where that is smaller, so that networks for large
// images also take small ones.
at::Tensor max_pool(const at::Tensor& x, std::int64_t kernel, std::int64_t stride);

// Convolution without bias, batch norm, activation: [n, in, h, w] -> [n, out, h', w'].
class ConvNormImpl : public torch::nn::Module {
 public:
  using Activation = at::Tensor (*)(const at::Tensor&);  // null: none

  ConvNormImpl(torch::nn::Conv2dOptions options, Activation activation, double epsilon = 1e-5);
  ConvNormImpl(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride = 1,
               Activation activation = relu_in_place);

  at::Tensor forward(const at::Tensor& x);

 private:
  torch::nn::Conv2d conv_;
  torch::nn::BatchNorm2d norm_;
  Activation activation_;
};
TORCH_MODULE(ConvNorm);

// Draws all convolutions of a network from a normal distribution of variance 2 / fan, and sets their biases
// to 0 (He et al., "Delving Deep into Rectifiers", 2015, eq. 10 with torch::kFanIn, eq. 14 with
// torch::kFanOut).
void init_convolutions(torch::nn::Module& network, torch::nn::init::FanModeType fan);

// Draws all linear layers from a normal distribution of this deviation, and sets their biases to 0.
void init_linear(torch::nn::Module& network, double deviation);

}  // namespace acp::models
