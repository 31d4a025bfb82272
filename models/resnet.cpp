// Residual networks (He et al., "Deep Residual Learning for Image Recognition", 2015, table 1), the deeper
// ones with the stride in the 3x3 convolution (version 1.5), and ResNet-18 for CIFAR's small images.
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include "models/image_model.h"
#include "models/layers.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

// What a block's input is carried past its layers by: itself, or a projection where the shape changes.
nn::Sequential projection(std::int64_t in, std::int64_t out, std::int64_t stride) {
  if (in == out && stride == 1) return {};
  return nn::Sequential(conv(in, out, 1, stride), nn::BatchNorm2d(out));
}

Tensor carried(nn::Sequential& projection, const Tensor& x) {
  return projection->is_empty() ? x : projection->forward(x);
}

// Two 3x3 convolutions: [n, in, h, w] -> [n, channels, h / stride, w / stride].
class BasicBlockImpl : public nn::Module {
 public:
  static constexpr std::int64_t expansion = 1;

  BasicBlockImpl(std::int64_t in, std::int64_t channels, std::int64_t stride)
      : conv1(register_module("conv1", conv(in, channels, 3, stride))),
        bn1(register_module("bn1", nn::BatchNorm2d(channels))),
        conv2(register_module("conv2", conv(channels, channels, 3))),
        bn2(register_module("bn2", nn::BatchNorm2d(channels))),
        downsample(register_module("downsample", projection(in, channels, stride))) {}

  Tensor forward(const Tensor& x) {
    Tensor y = bn2(conv2(relu_in_place(bn1(conv1(x)))));
    return relu_in_place(y.add_(carried(downsample, x)));
  }

 private:
  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Conv2d conv2;
  nn::BatchNorm2d bn2;
  nn::Sequential downsample;
};
TORCH_MODULE(BasicBlock);

// 1x1 to fewer channels, 3x3, 1x1 to four times as many: -> [n, 4 channels, h / stride, w / stride].
class BottleneckImpl : public nn::Module {
 public:
  static constexpr std::int64_t expansion = 4;

  BottleneckImpl(std::int64_t in, std::int64_t channels, std::int64_t stride)
      : conv1(register_module("conv1", conv(in, channels, 1))),
        bn1(register_module("bn1", nn::BatchNorm2d(channels))),
        conv2(register_module("conv2", conv(channels, channels, 3, stride))),
        bn2(register_module("bn2", nn::BatchNorm2d(channels))),
        conv3(register_module("conv3", conv(channels, channels * expansion, 1))),
        bn3(register_module("bn3", nn::BatchNorm2d(channels * expansion))),
        downsample(register_module("downsample", projection(in, channels * expansion, stride))) {}

  Tensor forward(const Tensor& x) {
    Tensor y = bn3(conv3(relu_in_place(bn2(conv2(relu_in_place(bn1(conv1(x))))))));
    return relu_in_place(y.add_(carried(downsample, x)));
  }

 private:
  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Conv2d conv2;
  nn::BatchNorm2d bn2;
  nn::Conv2d conv3;
  nn::BatchNorm2d bn3;
  nn::Sequential downsample;
};
TORCH_MODULE(Bottleneck);

template <class Block>
std::shared_ptr<Model> make_resnet(const Values& values, ImageForm form) {
  constexpr auto expansion = Block::ContainedType::expansion;
  auto net = std::make_shared<ImageModel>();
  std::int64_t channels = scaled(64, width_of(values));
  net->add("conv1", form.image == cifar.image ? conv(3, channels, 3) : conv(3, channels, 7, 2));
  net->add("bn1", nn::BatchNorm2d(channels));
  net->add("relu", relu_in_place);
  if (form.image != cifar.image) {
    net->add("maxpool", [](const Tensor& x) { return torch::max_pool2d(x, 3, 2, 1); });
  }
  std::int64_t in = channels;
  const auto blocks = counts_of(values, "blocks", 4);
  for (std::size_t stage = 0; stage < blocks.size(); ++stage) {
    nn::Sequential layer;
    for (std::int64_t i = 0; i < blocks[stage]; ++i) {
      layer->push_back(Block(in, channels, i == 0 && stage > 0 ? 2 : 1));
      in = channels * expansion;
    }
    net->add("layer" + std::to_string(stage + 1), layer);
    channels *= 2;
  }
  net->add("avgpool", global_average);
  net->add("fc", nn::Linear(in, classes_of(values)));
  init_convolutions(*net, torch::kFanOut);
  return net;
}

const TrainingDefaults imagenet_recipe{.learning_rate = 0.1,
                                       .momentum = 0.9,
                                       .weight_decay = 1e-4,
                                       .schedule = "step:every=30,gamma=0.1",
                                       .batch_size = 32,
                                       .eval_batch_size = 100,
                                       .epochs = 90};
// The rates of DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout",
// 2017.
const TrainingDefaults cifar_recipe{.optimizer = "sgd:nesterov=on",
                                    .learning_rate = 0.1,
                                    .momentum = 0.9,
                                    .weight_decay = 5e-4,
                                    .schedule = "milestones:at=60/120/160,gamma=0.2",
                                    .batch_size = 128,
                                    .eval_batch_size = 500,
                                    .epochs = 200};

template <class Block>
ModelInfo entry(const std::string& name, const std::string& summary, ModelSize size,
                const std::string& blocks, const std::string& few_blocks, ImageForm form = imagenet) {
  ModelInfo info;
  info.name = name;
  info.summary = summary;
  info.size = size;
  info.small = "image=32,classes=10,width=0.125,blocks=" + few_blocks;
  info.keys = {{"blocks", blocks, "residual blocks of each of the four stages"}};
  info.defaults = form.image == cifar.image ? cifar_recipe : imagenet_recipe;
  info.make = [form](const Values& values) { return make_resnet<Block>(values, form); };
  return image_entry(std::move(info), form);
}

const bool registered[] = {
    register_model(
        entry<BasicBlock>("resnet18", "ResNet-18 for ImageNet", {11'689'512, 62}, "2/2/2/2", "1/1/1/1")),
    register_model(entry<BasicBlock>("resnet18-cifar",
                                     "ResNet-18 with a 3x3 stem and no pooling before the blocks",
                                     {11'173'962, 62}, "2/2/2/2", "1/1/1/1", cifar)),
    register_model(
        entry<BasicBlock>("resnet34", "ResNet-34 for ImageNet", {21'797'672, 110}, "3/4/6/3", "1/2/1/1")),
    register_model(entry<Bottleneck>("resnet50", "ResNet-50 (v1.5) for ImageNet", {25'557'032, 161},
                                     "3/4/6/3", "1/1/1/1")),
    register_model(entry<Bottleneck>("resnet101", "ResNet-101 (v1.5) for ImageNet", {44'549'160, 314},
                                     "3/4/23/3", "1/1/2/1")),
    register_model(entry<Bottleneck>("resnet152", "ResNet-152 (v1.5) for ImageNet", {60'192'808, 467},
                                     "3/8/36/3", "1/2/1/1")),
};

}  // namespace
}  // namespace acp::models
