// The networks of Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
// Recognition", 2014 (table 1, D with 16 and E with 19 layers), also with batch norm, and forms for CIFAR.
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

#include "models/image_model.h"
#include "models/layers.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

// `hidden` units twice, each with dropout, then the classes; without hidden units the classes at once.
nn::Sequential classifier(std::int64_t in, const Values& values) {
  const auto hidden = values.integer("hidden", 0, 1 << 20), classes = classes_of(values);
  const double dropout = values.number("dropout", 0, 0.99);
  if (hidden == 0) return nn::Sequential(nn::Linear(in, classes));
  return nn::Sequential(nn::Linear(in, hidden), nn::Functional(relu_in_place), nn::Dropout(dropout),
                        nn::Linear(hidden, hidden), nn::Functional(relu_in_place), nn::Dropout(dropout),
                        nn::Linear(hidden, classes));
}

// `depths`: the convolutions between two poolings.
std::shared_ptr<Model> make_vgg(const std::vector<int>& depths, bool norm, ImageForm form,
                                const Values& values) {
  auto net = std::make_shared<ImageModel>();
  std::int64_t in = 3;
  for (std::size_t i = 0; i < depths.size(); ++i) {
    const auto channels = scaled(std::int64_t{64} << std::min<std::size_t>(i, 3), width_of(values));
    nn::Sequential block;
    for (int layer = 0; layer < depths[i]; ++layer) {
      block->push_back(nn::Conv2d(nn::Conv2dOptions(in, channels, 3).padding(1)));
      if (norm) block->push_back(nn::BatchNorm2d(channels));
      block->push_back(nn::Functional(relu_in_place));
      in = channels;
    }
    net->add("block" + std::to_string(i + 1), block);
    net->add("pool" + std::to_string(i + 1), [](const Tensor& x) { return torch::max_pool2d(x, 2); });
  }
  const std::int64_t side = form.image == cifar.image ? 1 : 7;
  net->add("avgpool", [side](const Tensor& x) {
    return torch::adaptive_avg_pool2d(x, {side, side}).flatten(1);
  });
  net->add("classifier", classifier(in * side * side, values));
  init_convolutions(*net, torch::kFanOut);
  if (values.integer("hidden", 0, 1 << 20) > 0)
    init_linear(*net, 0.01);  // one alone begins as torch draws it
  return net;
}

ModelInfo entry(const std::string& name, const std::string& summary, ModelSize size, std::vector<int> depths,
                bool norm, ImageForm form) {
  const bool small_images = form.image == cifar.image;
  ModelInfo info;
  info.name = name;
  info.summary = summary;
  info.size = size;
  info.small = "image=32,classes=10,width=0.125,dropout=0";
  if (!small_images) info.small += ",hidden=256";
  info.keys = {
      {"hidden", small_images ? "0" : "4096", "units of the two hidden linear layers; 0: there are none"},
      {"dropout", "0.5", "probability of dropping a hidden unit, 0 to 0.99"}};
  info.defaults = {
      .learning_rate = norm ? 0.1 : 0.01,
      .momentum = 0.9,
      .weight_decay = 5e-4,
      .schedule = small_images ? "milestones:at=60/120/160,gamma=0.2" : "step:every=30,gamma=0.1",
      .batch_size = small_images ? 128 : 32,
      .eval_batch_size = small_images ? 500 : 50,
      .epochs = small_images ? 200 : 74};
  info.make = [=](const Values& values) { return make_vgg(depths, norm, form, values); };
  return image_entry(std::move(info), form);
}

const std::vector<int> d = {2, 2, 3, 3, 3}, e = {2, 2, 4, 4, 4};

const bool registered[] = {
    register_model(entry("vgg16", "VGG-16 for ImageNet", {138'357'544, 32}, d, false, imagenet)),
    register_model(entry("vgg16-bn", "VGG-16 with batch norm", {138'365'992, 58}, d, true, imagenet)),
    register_model(entry("vgg16-cifar", "VGG-16's convolutions and one linear layer (hidden=: three)",
                         {14'719'818, 28}, d, false, cifar)),
    register_model(entry("vgg16-bn-cifar",
                         "VGG-16's convolutions with batch norm, and one linear layer (hidden=: three)",
                         {14'728'266, 54}, d, true, cifar)),
    register_model(entry("vgg19", "VGG-19 for ImageNet", {143'667'240, 38}, e, false, imagenet)),
};

}  // namespace
}  // namespace acp::models
