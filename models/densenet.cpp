// DenseNet-121 (Huang et al., "Densely Connected Convolutional Networks", 2016, table 1; the B and C forms).
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include "models/image_model.h"
#include "models/layers.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

// Norm, activation, 1x1 to four times the growth, norm, activation, 3x3: [n, in, h, w] -> [n, growth, h, w].
struct DenseLayerImpl : nn::Module {
  DenseLayerImpl(std::int64_t in, std::int64_t growth)
      : norm1(register_module("norm1", nn::BatchNorm2d(in))),
        conv1(register_module("conv1", conv(in, 4 * growth, 1))),
        norm2(register_module("norm2", nn::BatchNorm2d(4 * growth))),
        conv2(register_module("conv2", conv(4 * growth, growth, 3))) {}

  Tensor forward(const Tensor& x) { return conv2(relu_in_place(norm2(conv1(relu_in_place(norm1(x)))))); }

  nn::BatchNorm2d norm1;
  nn::Conv2d conv1;
  nn::BatchNorm2d norm2;
  nn::Conv2d conv2;
};
TORCH_MODULE(DenseLayer);

// Every layer sees the block's input and the results of all layers before it:
// [n, in, h, w] -> [n, in + layers * growth, h, w].
class DenseBlockImpl : public nn::Module {
 public:
  DenseBlockImpl(std::int64_t in, std::int64_t growth, std::int64_t layers) {
    for (std::int64_t i = 0; i < layers; ++i) {
      layers_.push_back(register_module("denselayer" + std::to_string(i + 1), DenseLayer(in, growth)));
      in += growth;
    }
  }

  Tensor forward(const Tensor& x) {
    std::vector<Tensor> features{x};
    for (DenseLayer& layer : layers_)
      features.push_back(layer(features.size() == 1 ? x : torch::cat(features, 1)));
    return torch::cat(features, 1);
  }

 private:
  std::vector<DenseLayer> layers_;
};
TORCH_MODULE(DenseBlock);

// For ImageNet, or for images of 32 pixels: these come to the first block as large as they are.
template <bool is_for_imagenet>
std::shared_ptr<Model> make_densenet(const Values& values) {
  const auto growth = scaled(32, width_of(values));
  auto channels = 2 * growth;
  auto net = std::make_shared<ImageModel>();
  net->add("conv0", is_for_imagenet ? conv(3, channels, 7, 2) : conv(3, channels, 3));
  if (is_for_imagenet) {
    net->add("norm0", nn::BatchNorm2d(channels));
    net->add("relu0", relu_in_place);
    net->add("pool0", [](const Tensor& x) { return torch::max_pool2d(x, 3, 2, 1); });
  }
  const auto blocks = counts_of(values, "blocks", 4);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto number = std::to_string(i + 1);
    net->add("denseblock" + number, DenseBlock(channels, growth, blocks[i]));
    channels += blocks[i] * growth;
    if (i + 1 == blocks.size()) continue;
    net->add("transition" + number, nn::Sequential(nn::BatchNorm2d(channels), nn::Functional(relu_in_place),
                                                   conv(channels, channels / 2, 1)));
    net->add("pool" + number, [](const Tensor& x) { return torch::avg_pool2d(x, 2); });
    channels /= 2;
  }
  net->add("norm5", nn::BatchNorm2d(channels));
  net->add("relu5", relu_in_place);
  net->add("avgpool", global_average);
  net->add("classifier", nn::Linear(channels, classes_of(values)));
  init_convolutions(*net, torch::kFanIn);
  return net;
}

ModelInfo entry(const char* name, const char* summary, ModelSize size, std::string schedule,
                std::int64_t batch, std::int64_t epochs, decltype(ModelInfo::make) make) {
  return {.name = name,
          .summary = summary,
          .size = size,
          .small = "image=32,classes=10,width=0.25,blocks=2/2/2/2",
          .keys = {{"blocks", "6/12/24/16", "layers of each of the four dense blocks"}},
          .defaults = {.optimizer = "sgd:nesterov=on",
                       .learning_rate = 0.1,
                       .momentum = 0.9,
                       .weight_decay = 1e-4,
                       .schedule = std::move(schedule),
                       .batch_size = batch,
                       .eval_batch_size = 100,
                       .epochs = epochs},
          .make = std::move(make)};
}

const bool registered = register_model(
    image_entry(entry("densenet121", "DenseNet-121 for ImageNet (width=: of its growth rate 32)",
                      {7'978'856, 364}, "step:every=30,gamma=0.1", 32, 90, make_densenet<true>),
                imagenet));
const bool registered_cifar = register_model(
    image_entry(entry("densenet121-cifar", "DenseNet-121 with a 3x3 stem and no pooling before the blocks",
                      {6'956'298, 362}, "milestones:at=150/225,gamma=0.1", 64, 300, make_densenet<false>),
                cifar));

}  // namespace
}  // namespace acp::models
