// AlexNet in the form of Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014,
// and a form with batch norm for CIFAR's small images.
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

#include "models/image_model.h"
#include "models/layers.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

// All layers begin as torch draws them: of the published deviation of 0.01 the signal all but vanishes in
// this form, which lacks the response normalisation.
std::shared_ptr<Model> make_alexnet(const Values& values) {
  const double width = width_of(values), dropout = values.number("dropout", 0, 0.99);
  const auto hidden = values.integer("hidden", 1, 1 << 20);
  const auto c1 = scaled(64, width), c2 = scaled(192, width), c3 = scaled(384, width),
             c4 = scaled(256, width);
  const auto pool = [](const Tensor& x) { return max_pool(x, 3, 2); };
  auto net = std::make_shared<ImageModel>();
  net->add("conv1", nn::Conv2d(nn::Conv2dOptions(3, c1, 11).stride(4).padding(2)));
  net->add("relu1", relu_in_place);
  net->add("pool1", pool);
  net->add("conv2", nn::Conv2d(nn::Conv2dOptions(c1, c2, 5).padding(2)));
  net->add("relu2", relu_in_place);
  net->add("pool2", pool);
  net->add("conv3", nn::Conv2d(nn::Conv2dOptions(c2, c3, 3).padding(1)));
  net->add("relu3", relu_in_place);
  net->add("conv4", nn::Conv2d(nn::Conv2dOptions(c3, c4, 3).padding(1)));
  net->add("relu4", relu_in_place);
  net->add("conv5", nn::Conv2d(nn::Conv2dOptions(c4, c4, 3).padding(1)));
  net->add("relu5", relu_in_place);
  net->add("pool5", pool);
  net->add("avgpool", [](const Tensor& x) { return torch::adaptive_avg_pool2d(x, {6, 6}).flatten(1); });
  net->add("drop6", nn::Dropout(dropout));
  net->add("fc6", nn::Linear(c4 * 36, hidden));
  net->add("relu6", relu_in_place);
  net->add("drop7", nn::Dropout(dropout));
  net->add("fc7", nn::Linear(hidden, hidden));
  net->add("relu7", relu_in_place);
  net->add("fc8", nn::Linear(hidden, classes_of(values)));
  return net;
}

std::shared_ptr<Model> make_alexnet_cifar(const Values& values) {
  const double width = width_of(values);
  const auto c1 = scaled(64, width), c2 = scaled(192, width), c3 = scaled(384, width),
             c4 = scaled(256, width);
  const auto halve = [](const Tensor& x) { return torch::max_pool2d(x, 2); };
  auto net = std::make_shared<ImageModel>();
  net->add("layer1", ConvNorm(3, c1, 3));
  net->add("pool1", halve);
  net->add("layer2", ConvNorm(c1, c2, 3));
  net->add("pool2", halve);
  net->add("layer3", ConvNorm(c2, c3, 3));
  net->add("layer4", ConvNorm(c3, c4, 3));
  net->add("layer5", ConvNorm(c4, c4, 3));
  net->add("pool5", halve);
  net->add("avgpool", [](const Tensor& x) { return torch::adaptive_avg_pool2d(x, {4, 4}).flatten(1); });
  net->add("fc", nn::Linear(c4 * 16, classes_of(values)));
  init_convolutions(*net, torch::kFanOut);
  return net;
}

const bool registered[] = {
    register_model(image_entry(
        {
            .name = "alexnet",
            .summary = "AlexNet for ImageNet, its form of 2014",
            .size = {61'100'840, 16},
            .small = "image=32,classes=10,width=0.125,hidden=32,dropout=0",
            .keys = {{"hidden", "4096", "units of the two hidden linear layers, at least 1"},
                     {"dropout", "0.5", "probability of dropping a hidden unit, 0 to 0.99"}},
            .defaults = {.learning_rate = 0.01,
                         .momentum = 0.9,
                         .weight_decay = 5e-4,
                         .schedule = "step:every=30,gamma=0.1",
                         .batch_size = 128,
                         .eval_batch_size = 250,
                         .epochs = 90},
            .make = make_alexnet,
        },
        imagenet)),
    register_model(image_entry(
        {
            .name = "alexnet-cifar",
            .summary = "AlexNet's five convolutions, 3x3 and with batch norm, and one linear layer",
            .size = {2'293'706, 17},
            .small = "width=0.0625",
            .defaults = {.learning_rate = 0.4,
                         .momentum = 0.9,
                         .weight_decay = 5e-4,
                         .schedule = "piecewise:at=0/5/30,value=0/0.4/0",
                         .batch_size = 256,
                         .eval_batch_size = 500,
                         .epochs = 30},
            .make = make_alexnet_cifar,
        },
        cifar)),
};

}  // namespace
}  // namespace acp::models
