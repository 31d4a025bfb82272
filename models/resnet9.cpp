// ResNet-9, with which David Page won DAWNBench's CIFAR-10 training in 2018 ("How to Train Your ResNet").
#include <torch/nn/modules/linear.h>

#include "models/image_model.h"
#include "models/layers.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

// Two convolutions whose result is added to their input.
class ResidualImpl : public nn::Module {
 public:
  explicit ResidualImpl(std::int64_t channels)
      : first_(register_module("first", ConvNorm(channels, channels, 3))),
        second_(register_module("second", ConvNorm(channels, channels, 3))) {}

  // Not in place: the inner activation's output is needed for its own gradient.
  Tensor forward(const Tensor& x) { return x + second_(first_(x)); }

 private:
  ConvNorm first_, second_;
};
TORCH_MODULE(Residual);

std::shared_ptr<Model> make_resnet9(const Values& values) {
  const double width = width_of(values);
  const auto c1 = scaled(64, width), c2 = scaled(128, width), c3 = scaled(256, width),
             c4 = scaled(512, width);
  const auto halve = [](const Tensor& x) { return torch::max_pool2d(x, 2); };
  auto net = std::make_shared<ImageModel>();
  net->add("prep", ConvNorm(3, c1, 3));
  net->add("layer1", ConvNorm(c1, c2, 3));
  net->add("pool1", halve);
  net->add("residual1", Residual(c2));
  net->add("layer2", ConvNorm(c2, c3, 3));
  net->add("pool2", halve);
  net->add("layer3", ConvNorm(c3, c4, 3));
  net->add("pool3", halve);
  net->add("residual3", Residual(c4));
  net->add("pool", [](const Tensor& x) { return torch::max_pool2d(x, {x.size(2), x.size(3)}).flatten(1); });
  net->add("linear", nn::Linear(nn::LinearOptions(c4, classes_of(values)).bias(false)));
  net->add("scale", [](const Tensor& x) { return x * 0.125; });
  return net;
}

const bool registered = register_model(image_entry(
    {
        .name = "resnet9",
        .summary = "the ResNet-9 of DAWNBench",
        .size = {6'573'120, 25},
        .small = "width=0.0625",
        .defaults = {.optimizer = "sgd:nesterov=on",
                     .learning_rate = 0.4,
                     .momentum = 0.9,
                     .weight_decay = 5e-4,
                     .schedule = "piecewise:at=0/5/24,value=0/0.4/0",
                     .batch_size = 512,
                     .eval_batch_size = 500,
                     .epochs = 24},
        .make = make_resnet9,
    },
    cifar));

}  // namespace
}  // namespace acp::models
