// Inception-v4 (Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
// Learning", 2016, figures 3 to 9).
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/pooling.h>

#include "models/image_model.h"
#include "models/layers.h"

namespace acp::models {
namespace {

namespace nn = torch::nn;
using at::Tensor;

// Several ways through, whose results are laid side by side: [n, in, h, w] -> [n, sum of outs, h', w'].
class BranchesImpl : public nn::Module {
 public:
  explicit BranchesImpl(std::vector<nn::Sequential> branches) : branches_(std::move(branches)) {
    for (std::size_t i = 0; i < branches_.size(); ++i)
      register_module("branch" + std::to_string(i), branches_[i]);
  }

  Tensor forward(const Tensor& x) {
    std::vector<Tensor> results;
    for (auto& branch : branches_) results.push_back(branch->forward(x));
    return torch::cat(results, 1);
  }

 private:
  std::vector<nn::Sequential> branches_;
};
TORCH_MODULE(Branches);

// The layers of one network. All channels are multiples of 32, and `width` counts in steps of 1/32, so that
// the sums of the branches' channels stay sums.
class Layers {
 public:
  // The published network does not pad where it halves the image or in the stem, and takes 75 pixels at
  // least; for smaller images these layers pad by one.
  Layers(double width, std::int64_t image) : unit_(scaled(32, width)), edge_(image < 75 ? 1 : 0) {}

  std::int64_t channels(std::int64_t n) const { return n / 32 * unit_; }

  // Height x width, the size kept.
  ConvNorm same(std::int64_t in, std::int64_t out, std::int64_t height, std::int64_t width) const {
    return make(
        nn::Conv2dOptions(channels(in), channels(out), {height, width}).padding({height / 2, width / 2}));
  }
  // 3x3 without padding.
  ConvNorm valid(std::int64_t in, std::int64_t out, std::int64_t stride) const {
    return make(
        nn::Conv2dOptions(in == 3 ? 3 : channels(in), channels(out), 3).stride(stride).padding(edge_));
  }
  nn::MaxPool2d halve() const { return nn::MaxPool2d(nn::MaxPool2dOptions(3).stride(2).padding(edge_)); }
  static nn::AvgPool2d average() {
    return nn::AvgPool2d(nn::AvgPool2dOptions(3).stride(1).padding(1).count_include_pad(false));
  }

 private:
  static ConvNorm make(const nn::Conv2dOptions& options) { return ConvNorm(options, relu_in_place, 1e-3); }

  std::int64_t unit_, edge_;
};

using Seq = nn::Sequential;

// Figure 4, and figure 3's three filter concatenations are stages of their own.
Branches block_a(const Layers& l) {
  return Branches(std::vector<Seq>{
      Seq(l.same(384, 96, 1, 1)),
      Seq(l.same(384, 64, 1, 1), l.same(64, 96, 3, 3)),
      Seq(l.same(384, 64, 1, 1), l.same(64, 96, 3, 3), l.same(96, 96, 3, 3)),
      Seq(Layers::average(), l.same(384, 96, 1, 1)),
  });
}

// Figure 7 with k, l, m, n = 192, 224, 256, 384.
Branches reduction_a(const Layers& l) {
  return Branches(std::vector<Seq>{
      Seq(l.valid(384, 384, 2)),
      Seq(l.same(384, 192, 1, 1), l.same(192, 224, 3, 3), l.valid(224, 256, 2)),
      Seq(l.halve()),
  });
}

// Figure 5.
Branches block_b(const Layers& l) {
  return Branches(std::vector<Seq>{
      Seq(l.same(1024, 384, 1, 1)),
      Seq(l.same(1024, 192, 1, 1), l.same(192, 224, 1, 7), l.same(224, 256, 7, 1)),
      Seq(l.same(1024, 192, 1, 1), l.same(192, 192, 7, 1), l.same(192, 224, 1, 7), l.same(224, 224, 7, 1),
          l.same(224, 256, 1, 7)),
      Seq(Layers::average(), l.same(1024, 128, 1, 1)),
  });
}

// Figure 8.
Branches reduction_b(const Layers& l) {
  return Branches(std::vector<Seq>{
      Seq(l.same(1024, 192, 1, 1), l.valid(192, 192, 2)),
      Seq(l.same(1024, 256, 1, 1), l.same(256, 256, 1, 7), l.same(256, 320, 7, 1), l.valid(320, 320, 2)),
      Seq(l.halve()),
  });
}

// Figure 6.
Branches block_c(const Layers& l) {
  const auto both = [&](std::int64_t in) {
    return Branches(std::vector<Seq>{Seq(l.same(in, 256, 1, 3)), Seq(l.same(in, 256, 3, 1))});
  };
  return Branches(std::vector<Seq>{
      Seq(l.same(1536, 256, 1, 1)),
      Seq(l.same(1536, 384, 1, 1), both(384)),
      Seq(l.same(1536, 384, 1, 1), l.same(384, 448, 3, 1), l.same(448, 512, 1, 3), both(512)),
      Seq(Layers::average(), l.same(1536, 256, 1, 1)),
  });
}

std::shared_ptr<Model> make_inceptionv4(const Values& values) {
  const Layers l(width_of(values), image_of(values));
  const auto blocks = counts_of(values, "blocks", 3);
  auto net = std::make_shared<ImageModel>();
  net->add("conv1", l.valid(3, 32, 2));
  net->add("conv2", l.valid(32, 32, 1));
  net->add("conv3", l.same(32, 64, 3, 3));
  net->add("stem1", Branches(std::vector<Seq>{Seq(l.halve()), Seq(l.valid(64, 96, 2))}));
  net->add("stem2",
           Branches(std::vector<Seq>{
               Seq(l.same(160, 64, 1, 1), l.valid(64, 96, 1)),
               Seq(l.same(160, 64, 1, 1), l.same(64, 64, 1, 7), l.same(64, 64, 7, 1), l.valid(64, 96, 1)),
           }));
  net->add("stem3", Branches(std::vector<Seq>{Seq(l.valid(192, 192, 2)), Seq(l.halve())}));
  const auto add_blocks = [&](const std::string& name, Branches (*make)(const Layers&), std::int64_t count) {
    Seq stage;
    for (std::int64_t i = 0; i < count; ++i) stage->push_back(make(l));
    net->add(name, stage);
  };
  add_blocks("a", block_a, blocks[0]);
  net->add("reduction_a", reduction_a(l));
  add_blocks("b", block_b, blocks[1]);
  net->add("reduction_b", reduction_b(l));
  add_blocks("c", block_c, blocks[2]);
  net->add("avgpool", global_average);
  net->add("dropout", nn::Dropout(values.number("dropout", 0, 0.99)));
  net->add("fc", nn::Linear(l.channels(1536), classes_of(values)));
  init_convolutions(*net, torch::kFanIn);
  return net;
}

const bool registered = register_model(image_entry(
    {
        .name = "inceptionv4",
        .summary = "Inception-v4 for ImageNet (width=: in steps of 1/32)",
        .size = {42'679'816, 449},
        .small = "image=32,classes=10,width=0.0625,blocks=1/1/1,dropout=0",
        .keys = {{"blocks", "4/7/3", "blocks A, B and C"},
                 {"dropout", "0.2", "probability of dropping a channel before the linear layer, 0 to 0.99"}},
        .defaults = {.learning_rate = 0.045,
                     .momentum = 0.9,
                     .weight_decay = 4e-5,
                     .schedule = "exponential:gamma=0.97",
                     .batch_size = 32,
                     .eval_batch_size = 50,
                     .epochs = 160},
        .make = make_inceptionv4,
    },
    {.image = 299, .classes = 1000}));

}  // namespace
}  // namespace acp::models
