// MobileNet-v2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, table 2).
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

#include "models/image_model.h"
#include "models/layers.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

// The multiple of 8 nearest to `channels` times `width`, at least 8 and at least nine tenths of it.
std::int64_t eights(std::int64_t channels, double width) {
  const double wanted = static_cast<double>(channels) * width;
  const auto nearest = std::max<std::int64_t>(8, static_cast<std::int64_t>(wanted + 4) / 8 * 8);
  return static_cast<double>(nearest) < 0.9 * wanted ? nearest + 8 : nearest;
}

// 1x1 to `expansion` times the channels, 3x3 in each channel alone, 1x1 without activation; the input is
// added where the shapes agree: [n, in, h, w] -> [n, out, h / stride, w / stride].
class InvertedResidualImpl : public nn::Module {
 public:
  InvertedResidualImpl(std::int64_t in, std::int64_t out, std::int64_t stride, std::int64_t expansion)
      : add_(stride == 1 && in == out) {
    const auto inner = in * expansion;
    if (expansion > 1) layers_->push_back(ConvNorm(in, inner, 1, 1, relu6_in_place));
    layers_->push_back(
        ConvNorm(nn::Conv2dOptions(inner, inner, 3).stride(stride).padding(1).groups(inner), relu6_in_place));
    layers_->push_back(ConvNorm(inner, out, 1, 1, nullptr));
    register_module("layers", layers_);
  }

  Tensor forward(const Tensor& x) {
    Tensor y = layers_->forward(x);
    return add_ ? y.add_(x) : y;
  }

 private:
  nn::Sequential layers_;
  bool add_;
};
TORCH_MODULE(InvertedResidual);

std::shared_ptr<Model> make_mobilenet(const Values& values) {
  struct Stage {
    std::int64_t expansion, channels, stride;
  };
  constexpr Stage stages[] = {{1, 16, 1}, {6, 24, 2},  {6, 32, 2}, {6, 64, 2},
                              {6, 96, 1}, {6, 160, 2}, {6, 320, 1}};
  const double width = width_of(values);
  const auto blocks = counts_of(values, "blocks", std::size(stages));
  auto net = std::make_shared<ImageModel>();
  std::int64_t in = eights(32, width);
  net->add("stem", ConvNorm(3, in, 3, 2, relu6_in_place));
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto out = eights(stages[i].channels, width);
    nn::Sequential stage;
    for (std::int64_t block = 0; block < blocks[i]; ++block) {
      stage->push_back(InvertedResidual(in, out, block == 0 ? stages[i].stride : 1, stages[i].expansion));
      in = out;
    }
    net->add("stage" + std::to_string(i + 1), stage);
  }
  const auto last = values.integer("last", 1, 1 << 20);
  const auto features = width > 1 ? eights(last, width) : last;
  net->add("head", ConvNorm(in, features, 1, 1, relu6_in_place));
  net->add("avgpool", global_average);
  net->add("dropout", nn::Dropout(values.number("dropout", 0, 0.99)));
  net->add("classifier", nn::Linear(features, classes_of(values)));
  init_convolutions(*net, torch::kFanOut);
  init_linear(*net, 0.01);
  return net;
}

const bool registered = register_model(image_entry(
    {
        .name = "mobilenet-v2",
        .summary = "MobileNet-v2 for ImageNet (width=: channels in eights)",
        .size = {3'504'872, 158},
        .small = "image=32,classes=10,width=0.25,blocks=1/1/2/1/1/1/1,last=64,dropout=0",
        .keys = {{"blocks", "1/2/3/4/3/3/1", "blocks of each of the seven stages"},
                 {"last", "1280", "channels before the linear layer (more with a width above 1)"},
                 {"dropout", "0.2", "probability of dropping one of these, 0 to 0.99"}},
        .defaults = {.learning_rate = 0.05,
                     .momentum = 0.9,
                     .weight_decay = 4e-5,
                     .schedule = "cosine",
                     .batch_size = 32,
                     .eval_batch_size = 100,
                     .epochs = 150},
        .make = make_mobilenet,
    },
    imagenet));

}  // namespace
}  // namespace acp::models
