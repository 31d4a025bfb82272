// The registry of models and the MNIST network: counts, shapes, a result computed by hand, gradients.
#include "models/model.h"

#include <torch/torch.h>

#include "comm/error.h"
#include "tests/catch.h"

namespace acp {
namespace {

using namespace models;

Batch random_batch(std::int64_t n, at::ScalarType type) {
  return {{torch::randn({n, 1, 28, 28}, type)}, torch::randint(10, {n}, torch::kLong), n};
}

TEST_CASE("models are made by specification", "[api][models]") {
  CHECK(choose_model("mnist").info->name == "mnist");
  CHECK(choose_model("mnist:dropout=0.25").spec.values.at("dropout") == "0.25");
  CHECK_THROWS_WITH(choose_model("mnits"), ContainsSubstring("mnist"));
  CHECK_THROWS_AS(choose_model("mnits"), ConfigError);
  CHECK_THROWS_WITH(choose_model("mnist:dropot=0"), ContainsSubstring("dropout"));
  CHECK_THROWS_AS(choose_model("mnist+mnist"), ConfigError);
  CHECK_THROWS_AS(choose_model("mnist:dropout=1.5").make(), ConfigError);
}

TEST_CASE("all models keep what their entries promise", "[api][models]") {
  REQUIRE_FALSE(models::models().empty());
  for (const ModelInfo* info : models::models()) {
    INFO(info->name);
    CHECK_FALSE(info->summary.empty());
    REQUIRE_FALSE(info->data_sets.empty());
    for (const std::string& name : info->data_sets) CHECK_NOTHROW(find_data_set(name));
    const auto choice = choose_model(info->name + (info->small.empty() ? "" : ":") + info->small);
    const auto model = choice.make();
    if (info->small.empty()) CHECK(size_of(*model) == info->size);
    const DataSet data =
        load_data(choose_data(info->data_sets, "synthetic:train=4,eval=4"), {.wanted = choice.sample()});
    const std::vector<std::int64_t> picked{0, 1, 2, 3};
    const Batch batch = data.train->get(picked, 0);
    CHECK(model->loss(batch).dim() == 0);
    const torch::NoGradGuard no_gradients;
    model->eval();
    const Sums sums = model->evaluate(batch);
    CHECK(sums.at("count") == 4);
    CHECK(sums.size() == model->no_sums().size());
    for (const auto& [name, value] : model->no_sums()) {
      CHECK(sums.count(name) == 1);
      CHECK(value == 0);
    }
  }
}

TEST_CASE("the MNIST network has its parameters and shapes", "[api][models]") {
  const auto model = choose_model("mnist").make();
  const ModelSize size = size_of(*model);
  CHECK(size.parameters == 21840);
  CHECK(size.tensors == 8);
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const auto& parameter : model->named_parameters())
    shapes[parameter.key()] = parameter.value().sizes().vec();
  const decltype(shapes) expected{{"conv1.weight", {10, 1, 5, 5}},  {"conv1.bias", {10}},
                                  {"conv2.weight", {20, 10, 5, 5}}, {"conv2.bias", {20}},
                                  {"fc1.weight", {50, 320}},        {"fc1.bias", {50}},
                                  {"fc2.weight", {10, 50}},         {"fc2.bias", {10}}};
  CHECK(shapes == expected);
}

TEST_CASE("the MNIST network's loss, by hand", "[api][models]") {
  for (const auto type : {torch::kFloat, torch::kDouble}) {
    const auto model = choose_model("mnist").make();
    model->to(type);
    model->eval();
    const torch::NoGradGuard no_gradients;
    auto parameters = model->named_parameters();
    // Ones come in. Each layer's output is the same everywhere: 25 * 0.04 + 0.5 = 1.5, then
    // 10 * 25 * 1.5 * 0.004 - 0.5 = 1, then 320 * 1 / 320 = 1, then class c gets 50 * 1 * c / 50 = c.
    parameters["conv1.weight"].fill_(0.04);
    parameters["conv1.bias"].fill_(0.5);
    parameters["conv2.weight"].fill_(0.004);
    parameters["conv2.bias"].fill_(-0.5);
    parameters["fc1.weight"].fill_(1.0 / 320);
    parameters["fc1.bias"].zero_();
    parameters["fc2.weight"].copy_(torch::arange(10, type).div(50).unsqueeze(1).expand({10, 50}));
    parameters["fc2.bias"].zero_();
    const Batch batch{{torch::ones({3, 1, 28, 28}, type)}, torch::tensor({9, 4, 9}), 3};
    double normaliser = 0;
    for (int c = 0; c < 10; ++c) normaliser += std::exp(c);
    const double loss = std::log(normaliser) - (9 + 4 + 9) / 3.0;
    const double tolerance = type == torch::kFloat ? 1e-5 : 1e-12;
    CHECK(model->loss(batch).item<double>() == Approx(loss).epsilon(tolerance));
    CHECK(model->loss(batch).scalar_type() == type);
    const Sums sums = model->evaluate(batch);
    CHECK(sums.at("count") == 3);
    CHECK(sums.at("correct") == 2);
    CHECK(sums.at("loss") == Approx(3 * loss).epsilon(tolerance));
    CHECK(model->metric(sums).name == "accuracy");
    CHECK(model->metric(sums).value == Approx(200.0 / 3));
  }
}

TEST_CASE("the MNIST network's gradients agree with finite differences", "[api][models]") {
  torch::manual_seed(3);
  const auto model = choose_model("mnist:dropout=0").make();
  model->to(torch::kDouble);
  const Batch batch = random_batch(4, torch::kDouble);
  model->loss(batch).backward();
  const torch::NoGradGuard no_gradients;
  for (const auto& item : model->named_parameters()) {
    const at::Tensor flat = item.value().view({-1}), gradient = item.value().grad().view({-1});
    for (int pick = 0; pick < 5; ++pick) {
      const std::int64_t i = pick * (flat.numel() - 1) / 4;
      const double value = flat[i].item<double>(), step = 1e-6;
      flat[i] = value + step;
      const double above = model->loss(batch).item<double>();
      flat[i] = value - step;
      const double below = model->loss(batch).item<double>();
      flat[i] = value;
      INFO(item.key() << '[' << i << ']');
      CHECK(gradient[i].item<double>() == Approx((above - below) / (2 * step)).epsilon(1e-5).margin(1e-8));
    }
  }
}

TEST_CASE("dropout acts in training alone, and not at 0", "[api][models]") {
  torch::manual_seed(5);
  const Batch batch = random_batch(16, torch::kFloat);
  const auto twice_equal = [&](Model& model) { return model.loss(batch).equal(model.loss(batch)); };
  const auto dropping = choose_model("mnist").make(), plain = choose_model("mnist:dropout=0").make();
  CHECK_FALSE(twice_equal(*dropping));
  CHECK(twice_equal(*plain));
  dropping->eval();
  CHECK(twice_equal(*dropping));
}

TEST_CASE("sums of parts add up to the sums of the whole", "[api][models]") {
  torch::manual_seed(7);
  const auto model = choose_model("mnist").make();
  model->to(torch::kDouble);
  model->eval();
  const torch::NoGradGuard no_gradients;
  const Batch all = random_batch(10, torch::kDouble);
  const Sums whole = model->evaluate(all);
  Sums total = model->no_sums();
  for (const auto& [begin, size] : {std::pair<std::int64_t, std::int64_t>{0, 3}, {3, 7}}) {
    add(total,
        model->evaluate({{all.inputs[0].narrow(0, begin, size)}, all.target.narrow(0, begin, size), size}));
  }
  for (const auto& [name, value] : whole) CHECK(total.at(name) == Approx(value).epsilon(1e-12));
}

}  // namespace
}  // namespace acp
