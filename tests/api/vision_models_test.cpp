// The image classifiers: sizes, shapes, results by formula, gradients, and that all of them train on two
// ranks.
#include <torch/torch.h>

#include <cmath>
#include <numeric>

#include "acp/broadcast.h"
#include "acp/collectives.h"
#include "acp/context.h"
#include "acp/distributed_optimizer.h"
#include "comm/error.h"
#include "models/image_model.h"
#include "models/model.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

namespace acp {
namespace {

using namespace models;
using at::Tensor;
namespace nn = torch::nn;

const std::map<std::string, std::int64_t> published = {
    {"alexnet", 61'100'840},          {"alexnet-cifar", 2'293'706}, {"densenet121", 7'978'856},
    {"densenet121-cifar", 6'956'298}, {"inceptionv4", 42'679'816},  {"mobilenet-v2", 3'504'872},
    {"resnet9", 6'573'120},           {"resnet18", 11'689'512},     {"resnet18-cifar", 11'173'962},
    {"resnet34", 21'797'672},         {"resnet50", 25'557'032},     {"resnet101", 44'549'160},
    {"resnet152", 60'192'808},        {"vgg16", 138'357'544},       {"vgg16-bn", 138'365'992},
    {"vgg16-bn-cifar", 14'728'266},   {"vgg16-cifar", 14'719'818},  {"vgg19", 143'667'240}};

std::shared_ptr<ImageModel> make(const std::string& spec) {
  auto model = std::dynamic_pointer_cast<ImageModel>(choose_model(spec).make());
  REQUIRE(model);
  return model;
}

std::string small_form(const std::string& name) {
  return name + ":" + find_model(name).small;
}

Batch random_batch(const std::string& spec, std::int64_t n, at::ScalarType type) {
  const SampleSpec sample = choose_model(spec).sample();
  std::vector<std::int64_t> shape = sample.inputs[0].shape;
  shape.insert(shape.begin(), n);
  return {{torch::randn(shape, type)}, torch::randint(sample.target.classes, {n}, torch::kLong), n};
}

TEST_CASE("image classifiers have the published sizes", "[api][models]") {
  for (const auto& [name, parameters] : published) {
    INFO(name);
    const ModelInfo& info = find_model(name);
    CHECK(info.size.parameters == parameters);
    CHECK(size_of(*choose_model(name).make()) == info.size);
  }
}

using Shapes = std::vector<std::pair<std::string, std::vector<std::int64_t>>>;

// The shapes of the stages named in `expected`, in order; of 2 images.
Shapes shapes_of(const std::string& spec, const Shapes& expected) {
  const auto model = make(spec);
  model->eval();
  const torch::NoGradGuard no_gradients;
  Shapes result;
  for (const auto& shape : model->stage_shapes(random_batch(spec, 2, torch::kFloat).inputs[0])) {
    const auto named = [&](const auto& each) { return each.first == shape.first; };
    if (std::any_of(expected.begin(), expected.end(), named)) result.push_back(shape);
  }
  return result;
}

void check_shapes(const std::string& spec, const Shapes& expected) {
  INFO(spec);
  CHECK(shapes_of(spec, expected) == expected);
}

TEST_CASE("image classifiers' stages have the published shapes", "[api][models]") {
  check_shapes("resnet18:image=224,width=0.125,blocks=1/1/1/1", {{"conv1", {2, 8, 112, 112}},
                                                                 {"maxpool", {2, 8, 56, 56}},
                                                                 {"layer1", {2, 8, 56, 56}},
                                                                 {"layer2", {2, 16, 28, 28}},
                                                                 {"layer3", {2, 32, 14, 14}},
                                                                 {"layer4", {2, 64, 7, 7}},
                                                                 {"avgpool", {2, 64}},
                                                                 {"fc", {2, 1000}}});
  check_shapes("resnet50:image=32,classes=7,width=0.125,blocks=1/1/1/1", {{"maxpool", {2, 8, 8, 8}},
                                                                          {"layer1", {2, 32, 8, 8}},
                                                                          {"layer2", {2, 64, 4, 4}},
                                                                          {"layer3", {2, 128, 2, 2}},
                                                                          {"layer4", {2, 256, 1, 1}},
                                                                          {"fc", {2, 7}}});
  check_shapes("resnet18-cifar:width=0.125", {{"conv1", {2, 8, 32, 32}},
                                              {"layer1", {2, 8, 32, 32}},
                                              {"layer2", {2, 16, 16, 16}},
                                              {"layer3", {2, 32, 8, 8}},
                                              {"layer4", {2, 64, 4, 4}},
                                              {"fc", {2, 10}}});
  check_shapes("resnet9:width=0.125", {{"prep", {2, 8, 32, 32}},
                                       {"pool1", {2, 16, 16, 16}},
                                       {"residual1", {2, 16, 16, 16}},
                                       {"pool2", {2, 32, 8, 8}},
                                       {"residual3", {2, 64, 4, 4}},
                                       {"pool", {2, 64}},
                                       {"scale", {2, 10}}});
  check_shapes("vgg16:image=64,width=0.125,hidden=5", {{"block1", {2, 8, 64, 64}},
                                                       {"pool1", {2, 8, 32, 32}},
                                                       {"pool2", {2, 16, 16, 16}},
                                                       {"pool3", {2, 32, 8, 8}},
                                                       {"block4", {2, 64, 8, 8}},
                                                       {"pool5", {2, 64, 2, 2}},
                                                       {"avgpool", {2, 64 * 49}},
                                                       {"classifier", {2, 1000}}});
  check_shapes("vgg16-bn-cifar:width=0.125,classes=100",
               {{"pool5", {2, 64, 1, 1}}, {"avgpool", {2, 64}}, {"classifier", {2, 100}}});
  check_shapes("alexnet:width=0.125,hidden=5", {{"conv1", {2, 8, 55, 55}},
                                                {"pool1", {2, 8, 27, 27}},
                                                {"conv2", {2, 24, 27, 27}},
                                                {"pool2", {2, 24, 13, 13}},
                                                {"conv5", {2, 32, 13, 13}},
                                                {"pool5", {2, 32, 6, 6}},
                                                {"avgpool", {2, 32 * 36}},
                                                {"fc8", {2, 1000}}});
  check_shapes("alexnet:image=32,width=0.125,hidden=5",
               {{"conv1", {2, 8, 7, 7}}, {"pool2", {2, 24, 1, 1}}, {"pool5", {2, 32, 1, 1}}});
  check_shapes(
      "alexnet-cifar:width=0.125",
      {{"pool1", {2, 8, 16, 16}}, {"pool2", {2, 24, 8, 8}}, {"pool5", {2, 32, 4, 4}}, {"fc", {2, 10}}});
  check_shapes("densenet121:image=64,width=0.25", {{"pool0", {2, 16, 16, 16}},
                                                   {"denseblock1", {2, 64, 16, 16}},
                                                   {"pool1", {2, 32, 8, 8}},
                                                   {"denseblock2", {2, 128, 8, 8}},
                                                   {"pool2", {2, 64, 4, 4}},
                                                   {"denseblock3", {2, 256, 4, 4}},
                                                   {"denseblock4", {2, 256, 2, 2}},
                                                   {"classifier", {2, 1000}}});
  check_shapes("mobilenet-v2:blocks=1/1/1/1/1/1/1,image=64", {{"stem", {2, 32, 32, 32}},
                                                              {"stage1", {2, 16, 32, 32}},
                                                              {"stage2", {2, 24, 16, 16}},
                                                              {"stage3", {2, 32, 8, 8}},
                                                              {"stage4", {2, 64, 4, 4}},
                                                              {"stage5", {2, 96, 4, 4}},
                                                              {"stage6", {2, 160, 2, 2}},
                                                              {"stage7", {2, 320, 2, 2}},
                                                              {"head", {2, 1280, 2, 2}}});
  const auto inception = [](std::int64_t a, std::int64_t b, std::int64_t c) -> Shapes {
    return {{"stem3", {2, 24, a, a}}, {"a", {2, 24, a, a}},           {"reduction_a", {2, 64, b, b}},
            {"b", {2, 64, b, b}},     {"reduction_b", {2, 96, c, c}}, {"c", {2, 96, c, c}},
            {"fc", {2, 1000}}};
  };
  check_shapes("inceptionv4:width=0.0625,blocks=1/1/1", inception(35, 17, 8));
  check_shapes("inceptionv4:width=0.0625,blocks=1/1/1,image=75", inception(7, 3, 1));
  check_shapes("inceptionv4:width=0.0625,blocks=1/1/1,image=32", inception(4, 2, 1));
  // Sums of the branches' channels stay sums at any width.
  check_shapes("inceptionv4:width=0.1,blocks=1/1/1,image=32", {{"c", {2, 3 * 48, 1, 1}}});
}

// Every convolution becomes the mean of its input's channels at the same place, every linear layer's unit c
// c times the mean of its input. An image of one value then has one value per channel everywhere.
void make_averaging(nn::Module& model) {
  const torch::NoGradGuard no_gradients;
  for (const auto& module : model.modules(false)) {
    if (const auto* conv = module->as<nn::Conv2dImpl>()) {
      Tensor weight = conv->weight;
      weight.zero_();
      weight.select(3, weight.size(3) / 2)
          .select(2, weight.size(2) / 2)
          .fill_(1.0 / static_cast<double>(weight.size(1)));
      if (conv->bias.defined()) Tensor(conv->bias).zero_();
    } else if (const auto* linear = module->as<nn::LinearImpl>()) {
      Tensor weight = linear->weight;
      weight.copy_(torch::arange(weight.size(0), weight.options()).unsqueeze(1).expand_as(weight) /
                   weight.size(1));
      if (linear->bias.defined()) Tensor(linear->bias).zero_();
    }
  }
}

// The last unit of a linear layer is `mean` times the number of classes less one.
void check_constant(const std::string& spec, double mean) {
  INFO(spec);
  const auto model = make(spec + (spec.find(':') == std::string::npos ? ":" : ",") + "classes=4,image=32");
  model->to(torch::kDouble);
  make_averaging(*model);
  model->eval();
  const torch::NoGradGuard no_gradients;
  const Tensor logits = model->forward(torch::full({2, 3, 32, 32}, 2.0, torch::kDouble));
  for (int c = 0; c < 4; ++c) {
    CHECK(logits[0][c].item<double>() == Approx(c * mean).epsilon(1e-10));
    CHECK(logits[1][c].item<double>() == Approx(c * mean).epsilon(1e-10));
  }
}

// Channels side by side: how many of what value.
using Channels = std::vector<std::pair<double, double>>;

double mean(const Channels& channels) {
  double count = 0, sum = 0;
  for (const auto& [n, value] : channels) count += n, sum += n * value;
  return sum / count;
}

Channels operator+(Channels a, const Channels& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_CASE("image classifiers' results, by formula", "[api][models]") {
  const double x = 2, s = 1 / std::sqrt(1 + 1e-5);  // what batch norm multiplies with at first
  const auto power = [](double base, int n) { return std::pow(base, n); };
  {
    const double layer1 = x * s * (s * s + 1), projected = s * s + s;
    check_constant("resnet18:blocks=1/1/1/1,width=0.25", layer1 * power(projected, 3));
    check_constant("resnet18-cifar:blocks=2/1/1/1,width=0.25", layer1 * (s * s + 1) * power(projected, 3));
  }
  check_constant("resnet50:blocks=1/2/1/1,width=0.25", x * s * power(s * s * s + s, 4) * (s * s * s + 1));
  check_constant("resnet9:width=0.25", x * power(s, 4) * power(1 + s * s, 2) / 8);
  check_constant("vgg16-cifar:width=0.25", x);
  check_constant("vgg19:width=0.25,hidden=5", x * 2 * 2);  // the mean of 0 to 4, twice
  check_constant("vgg16-bn-cifar:width=0.25", x * power(s, 13));
  check_constant("vgg16-bn:width=0.25,hidden=5", x * power(s, 13) * 2 * 2);
  check_constant("alexnet:width=0.25,hidden=7", x * 3 * 3);
  check_constant("alexnet-cifar:width=0.25", x * power(s, 5));
  check_constant("mobilenet-v2:blocks=1/2/1/1/1/1/1",
                 x * s * power(s, 2) * power(s, 3) * (1 + power(s, 3)) * power(s, 15) * s);
  double value = x * s, channels = 16;
  for (const int layers : {2, 1, 3, 1}) {
    Channels block{{channels, value}};
    for (int i = 0; i < layers; ++i) block.push_back({8, mean(block) * s * s});
    value = mean(block) * s;
    channels = (channels + 8 * layers) / 2;
  }
  check_constant("densenet121:blocks=2/1/3/1,width=0.25", value);
}

TEST_CASE("Inception-v4's result, by formula", "[api][models]") {
  const double s = 1 / std::sqrt(1 + 1e-3);
  const auto after = [&](const Channels& in, int layers) { return mean(in) * std::pow(s, layers); };
  Channels x{{64, 2 * s * s * s}};
  x = x + Channels{{96, after(x, 1)}};
  x = {{96, after(x, 2)}, {96, after(x, 4)}};
  x = Channels{{192, after(x, 1)}} + x;
  x = {{96, after(x, 1)}, {96, after(x, 2)}, {96, after(x, 3)}, {96, after(x, 1)}};
  x = Channels{{384, after(x, 1)}, {256, after(x, 3)}} + x;
  x = {{384, after(x, 1)}, {256, after(x, 3)}, {256, after(x, 5)}, {128, after(x, 1)}};
  x = Channels{{192, after(x, 2)}, {320, after(x, 4)}} + x;
  x = {{256, after(x, 1)}, {512, after(x, 2)}, {512, after(x, 4)}, {256, after(x, 1)}};
  check_constant("inceptionv4:width=0.0625,blocks=1/1/1", mean(x));
}

TEST_CASE("image classifiers' gradients agree with finite differences", "[api][models]") {
  for (const std::string spec :
       {"resnet18:image=32,width=0.0625,blocks=1/1/1/1", "resnet50:image=32,width=0.0625,blocks=1/1/1/1",
        "resnet9:width=0.03125", "vgg16-bn-cifar:width=0.03125", "alexnet-cifar:width=0.03125",
        "alexnet:image=32,width=0.0625,hidden=8,dropout=0", "densenet121:image=32,width=0.125,blocks=2/2/1/1",
        "mobilenet-v2:image=32,width=0.125,blocks=1/1/2/1/1/1/1,last=16,dropout=0",
        "inceptionv4:image=32,width=0.03125,blocks=1/1/1,dropout=0"}) {
    INFO(spec);
    torch::manual_seed(3);
    const auto model = make(spec);
    model->to(torch::kDouble);
    const Batch batch = random_batch(spec, 4, torch::kDouble);
    model->loss(batch).backward();
    const torch::NoGradGuard no_gradients;
    const double step = 1e-7, here = model->loss(batch).item<double>();
    // Some parameters spread over all of the network, each along a random direction.
    const auto parameters = model->named_parameters();
    for (std::size_t i = 0; i < parameters.size(); i += 1 + parameters.size() / 4) {
      INFO(parameters[i].key());
      Tensor parameter = parameters[i].value();
      const Tensor before = parameter.clone(), direction = torch::randn_like(parameter);
      parameter.add_(direction, step);
      const double ahead = (model->loss(batch).item<double>() - here) / step;
      parameter.copy_(before).sub_(direction, step);
      const double behind = (here - model->loss(batch).item<double>()) / step;
      parameter.copy_(before);
      const double slope = (parameter.grad() * direction).sum().item<double>();
      // Where a step crosses a kink (of an activation, of a maximum) the other side's difference counts.
      double nearest = (ahead + behind) / 2;
      for (const double one_sided : {ahead, behind}) {
        if (std::abs(slope - one_sided) < std::abs(slope - nearest)) nearest = one_sided;
      }
      CHECK(slope == Approx(nearest).epsilon(1e-4).margin(1e-6));
    }
  }
}

TEST_CASE("image classifiers check their keys", "[api][models]") {
  const auto refused = [](const std::string& spec) {
    return test::message_of<ConfigError>([&] { choose_model(spec).make(); });
  };
  CHECK_THAT(refused("resnet18:image=31"), ContainsSubstring("image"));
  CHECK_THAT(refused("resnet18:classes=1"), ContainsSubstring("classes"));
  CHECK_THAT(refused("resnet18:width=0"), ContainsSubstring("width"));
  CHECK_THAT(refused("resnet18:blocks=2/2/2"), ContainsSubstring("blocks=2/2/2: must be 4"));
  CHECK_THAT(refused("densenet121:blocks=1/0/1/1/1"), ContainsSubstring("blocks"));
  CHECK_THAT(refused("inceptionv4:blocks=1/1.5/1"), ContainsSubstring("blocks"));
  CHECK_THAT(refused("vgg16-cifar:hidden=-1"), ContainsSubstring("hidden"));
  CHECK_THAT(refused("alexnet:dropout=1"), ContainsSubstring("dropout"));
  CHECK_THAT(refused("mobilenet-v2:blokcs=1"), ContainsSubstring("blocks"));
}

TEST_CASE("image classifiers take image and classes from the data", "[api][models]") {
  const DataSet data{"four", {{{{3, 48, 48}, 0}}, {{}, 4}}, nullptr, nullptr, nullptr};
  auto choice = choose_model("resnet50");
  choice.fit(data);
  CHECK(choice.spec.to_string() == "resnet50:classes=4,image=48");
  choice = choose_model("resnet50:image=96");
  CHECK_THROWS_AS(choice.fit(data), ConfigError);
}

TEST_CASE("a vocabulary may be larger than the text's, and not smaller", "[api][models]") {
  const DataSet text{"words", {{{{16}, 900}}, {{16}, 900}}, nullptr, nullptr, nullptr};
  auto choice = choose_model("lstm-lm:vocab=1000,seq=16");
  choice.fit(text);
  CHECK(choice.spec.to_string() == "lstm-lm:seq=16,vocab=1000");
  choice = choose_model("lstm-lm:vocab=800,seq=16");
  CHECK_THROWS_WITH(choice.fit(text), ContainsSubstring("vocab=800 is less than the 900 words of words"));
  choice = choose_model("lstm-lm:vocab=1000,seq=32");
  CHECK_THROWS_AS(choice.fit(text), ConfigError);
}

TEST_CASE("label smoothing acts on the training loss alone", "[api][models]") {
  torch::manual_seed(1);
  const auto model = choose_model("mnist").make();
  model->to(torch::kDouble);
  model->eval();
  const torch::NoGradGuard no_gradients;
  const Batch batch{{torch::randn({3, 1, 28, 28}, torch::kDouble)}, torch::tensor({9, 4, 9}), 3};
  const Tensor probabilities =
      torch::log_softmax(dynamic_cast<Classifier&>(*model).forward(batch.inputs[0]), 1);
  const Sums sums = model->evaluate(batch);
  model->set_label_smoothing(0.2);
  double expected = 0;
  for (int i = 0; i < 3; ++i) {
    for (int c = 0; c < 10; ++c) {
      const double wanted = 0.02 + (batch.target[i].item<std::int64_t>() == c ? 0.8 : 0);
      expected -= wanted * probabilities[i][c].item<double>() / 3;
    }
  }
  CHECK(model->loss(batch).item<double>() == Approx(expected).epsilon(1e-12));
  CHECK(model->evaluate(batch) == sums);
  CHECK_THROWS_AS(model->set_label_smoothing(1), ConfigError);
  CHECK_THROWS_AS(model->set_label_smoothing(-0.1), ConfigError);
}

// Losses of 20 steps on a fixed batch, the mean of two ranks.
std::vector<double> train(const std::string& spec, const std::string& compressor) {
  torch::manual_seed(11);
  const auto first = choose_model(spec).make(), second = choose_model(spec).make();
  const Batch batches[] = {random_batch(spec, 4, torch::kFloat), random_batch(spec, 4, torch::kFloat)};
  std::vector<double> losses(20);
  run_local(2, [&](Context& context) {
    Model& model = context.rank() == 0 ? *first : *second;
    broadcast_parameters(model);
    DistributedOptimizer optimizer(
        torch::optim::SGD(model.parameters(), torch::optim::SGDOptions(0.05).momentum(0.9)),
        model.named_parameters(), Options().compressor(compressor));
    for (double& total : losses) {
      optimizer.zero_grad();
      const Tensor loss = model.loss(batches[context.rank()]);
      loss.backward();
      optimizer.synchronize();
      nn::utils::clip_grad_norm_(model.parameters(), 6);
      optimizer.step();
      const Tensor mean = all_reduce(loss.detach());
      if (context.rank() == 0) total = mean.item<double>();
    }
  });
  const auto a = first->parameters(), b = second->parameters();
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(torch::equal(a[i], b[i]));
  return losses;
}

TEST_CASE("image classifiers train on two ranks", "[api][models]") {
  for (const auto& [name, parameters] : published) {
    for (const std::string compressor : {"none", "acpsgd:rank=4", "topk:ratio=0.05"}) {
      INFO(name << " with " << compressor);
      const auto losses = train(small_form(name), compressor);
      const double begin = losses.front(), end = std::accumulate(losses.end() - 3, losses.end(), 0.0) / 3;
      INFO(begin << " -> " << end);
      CHECK(end < 0.93 * begin);
    }
  }
}

}  // namespace
}  // namespace acp
