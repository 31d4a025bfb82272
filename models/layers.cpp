// See layers.h.
#include "models/layers.h"

#include <torch/nn/init.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <cmath>

namespace acp::models {

namespace nn = torch::nn;
using at::Tensor;

std::int64_t scaled(std::int64_t channels, double width) {
  return std::max<std::int64_t>(1, std::llround(static_cast<double>(channels) * width));
}

nn::Conv2d conv(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride) {
  return nn::Conv2d(nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

Tensor relu_in_place(const Tensor& x) {
  Tensor result = x;
  return result.relu_();
}

Tensor relu6_in_place(const Tensor& x) {
  Tensor result = x;
  return result.clamp_(0, 6);
}

Tensor global_average(const Tensor& x) {
  return x.mean({2, 3});
}

Tensor max_pool(const Tensor& x, std::int64_t kernel, std::int64_t stride) {
  const auto h = std::min(kernel, x.size(2)), w = std::min(kernel, x.size(3));
  return torch::max_pool2d(x, {h, w}, stride);
}

ConvNormImpl::ConvNormImpl(nn::Conv2dOptions options, Activation activation, double epsilon)
    : conv_(register_module("conv", nn::Conv2d(options.bias(false)))),
      norm_(register_module("norm",
                            nn::BatchNorm2d(nn::BatchNorm2dOptions(options.out_channels()).eps(epsilon)))),
      activation_(activation) {}

ConvNormImpl::ConvNormImpl(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
                           Activation activation)
    : ConvNormImpl(nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2), activation) {}

Tensor ConvNormImpl::forward(const Tensor& x) {
  const Tensor y = norm_(conv_(x));
  return activation_ == nullptr ? y : activation_(y);
}

void init_convolutions(nn::Module& network, nn::init::FanModeType fan) {
  for (const auto& module : network.modules(/*include_self=*/false)) {
    if (const auto* layer = module->as<nn::Conv2dImpl>()) {
      nn::init::kaiming_normal_(layer->weight, 0, fan, torch::kReLU);
      if (layer->bias.defined()) nn::init::zeros_(layer->bias);
    }
  }
}

void init_linear(nn::Module& network, double deviation) {
  for (const auto& module : network.modules(/*include_self=*/false)) {
    if (const auto* layer = module->as<nn::LinearImpl>()) {
      nn::init::normal_(layer->weight, 0, deviation);
      if (layer->bias.defined()) nn::init::zeros_(layer->bias);
    }
  }
}

}  // namespace acp::models
