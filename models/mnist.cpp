// The MNIST network of the ACP-SGD example (two convolutions, two linear layers, 21,840 parameters).
#include <torch/nn/functional.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

#include "models/classifier.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

class Mnist final : public Classifier {
 public:
  explicit Mnist(double dropout)
      : conv1(register_module("conv1", nn::Conv2d(nn::Conv2dOptions(1, 10, 5)))),
        conv2(register_module("conv2", nn::Conv2d(nn::Conv2dOptions(10, 20, 5)))),
        drop_channels(register_module("drop_channels", nn::Dropout2d(dropout))),
        fc1(register_module("fc1", nn::Linear(320, 50))),
        drop(register_module("drop", nn::Dropout(dropout))),
        fc2(register_module("fc2", nn::Linear(50, 10))) {}

  Tensor forward(Tensor x) override {
    x = torch::relu(torch::max_pool2d(conv1(x), 2));
    x = torch::relu(torch::max_pool2d(drop_channels(conv2(x)), 2));
    x = drop(torch::relu(fc1(x.flatten(1))));
    return fc2(x);
  }

 private:
  nn::Conv2d conv1, conv2;
  nn::Dropout2d drop_channels;
  nn::Linear fc1;
  nn::Dropout drop;
  nn::Linear fc2;
};

const bool registered = register_model({
    .name = "mnist",
    .summary = "two convolutions and two linear layers for 28x28 grey images",
    .size = {21840, 8},
    .keys = {{"dropout", "0.5", "probability of dropping a channel or unit, 0 to 0.99"}},
    .data_sets = {"mnist", "fashion-mnist", "digits", "synthetic"},
    .defaults = {.learning_rate = 0.05,
                 .momentum = 0.9,
                 .schedule = "linear",
                 .batch_size = 64,
                 .eval_batch_size = 1000,
                 .epochs = 3},
    .sample = [](const Values&) -> SampleSpec {
      return {{{{1, 28, 28}, 0}}, {{}, 10}};
    },
    .make = [](const Values& values) { return std::make_shared<Mnist>(values.number("dropout", 0, 0.99)); },
});

}  // namespace
}  // namespace acp::models
