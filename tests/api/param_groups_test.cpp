// Optimizers by name with a group of parameters that weight decay leaves alone.
#include <torch/torch.h>

#include "benchmarks/common/optimizers.h"
#include "tests/catch.h"

using namespace acp::programs;

namespace {

// What a step without gradient leaves of two ones, the second without decay.
std::pair<float, float> after_step(const std::string& optimizer, double decay) {
  const auto a = torch::ones({2}, torch::requires_grad()), b = torch::ones({2}, torch::requires_grad());
  auto made = make_optimizer(optimizer, {a}, {b}, {0.5, {}, decay});
  a.mutable_grad() = torch::zeros({2});
  b.mutable_grad() = torch::zeros({2});
  made->step();
  return {a[0].item<float>(), b[0].item<float>()};
}

}  // namespace

TEST_CASE("the second group has no weight decay", "[api][param-groups]") {
  CHECK(after_step("sgd", 0.1).first == Approx(0.95));
  CHECK(after_step("adamw", 0.1).first == Approx(0.95));
  for (const char* name : {"sgd", "adam", "adamw", "rmsprop", "adagrad"}) {
    INFO(name);
    CHECK(after_step(name, 0.1).first < 0.99F);
    CHECK(after_step(name, 0.1).second == 1);
    CHECK(after_step(name, 0).first == 1);
  }
}

TEST_CASE("rates reach both groups; a single group where nothing decays", "[api][param-groups]") {
  const auto a = torch::ones({2}, torch::requires_grad()), b = torch::ones({2}, torch::requires_grad());
  const auto two = make_optimizer("sgd", {a}, {b}, {0.5, {}, 0.1});
  REQUIRE(two->param_groups().size() == 2);
  set_learning_rate(*two, 0.25);
  for (auto& group : two->param_groups()) CHECK(group.options().get_lr() == 0.25);
  CHECK(make_optimizer("sgd", {a}, {b}, {0.5, {}, 0})->param_groups().size() == 1);
  CHECK(make_optimizer("lbfgs", {a}, {b}, {1, {}, {}})->param_groups().size() == 1);
  CHECK(make_optimizer("sgd", {}, {b}, {0.5, {}, 0.1})->param_groups().size() == 1);
}
