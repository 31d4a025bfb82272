// Optimizers by name: the right class with the right settings, and what is refused.
#include <torch/torch.h>

#include <array>
#include <cmath>
#include <sstream>

#include "benchmarks/common/lamb.h"
#include "benchmarks/common/optimizers.h"
#include "comm/error.h"
#include "tests/catch.h"

using namespace acp::programs;

namespace {

std::vector<at::Tensor> parameters() {
  auto tensor = torch::ones({3});
  tensor.set_requires_grad(true);
  tensor.mutable_grad() = torch::full({3}, 0.5);
  return {tensor};
}

}  // namespace

TEST_CASE("every optimizer is made with its settings", "[api][optimizer-names]") {
  const auto tensors = parameters();
  const auto sgd = make_optimizer("sgd:nesterov=on", tensors, 0.25, 0.5, 0.125);
  const auto& s = dynamic_cast<torch::optim::SGD&>(*sgd).param_groups()[0].options();
  const auto& sgd_options = static_cast<const torch::optim::SGDOptions&>(s);
  CHECK(sgd_options.lr() == 0.25);
  CHECK(sgd_options.momentum() == 0.5);
  CHECK(sgd_options.weight_decay() == 0.125);
  CHECK(sgd_options.nesterov());

  const auto adam =
      make_optimizer("adam:beta1=0.8,beta2=0.95,eps=1e-6,amsgrad=yes", tensors, {0.01, {}, 0.5});
  const auto& adam_options =
      static_cast<const torch::optim::AdamOptions&>(dynamic_cast<torch::optim::Adam&>(*adam).defaults());
  CHECK(adam_options.betas() == std::make_tuple(0.8, 0.95));
  CHECK(adam_options.eps() == 1e-6);
  CHECK(adam_options.weight_decay() == 0.5);
  CHECK(adam_options.amsgrad());

  const auto adamw = make_optimizer("adamw", tensors, OptimizerSettings{0.01, {}, {}});
  CHECK(static_cast<const torch::optim::AdamWOptions&>(dynamic_cast<torch::optim::AdamW&>(*adamw).defaults())
            .weight_decay() == 0.01);
  const auto rmsprop = make_optimizer("rmsprop:alpha=0.9,centered=on", tensors, 0.01, 0.3, 0);
  const auto& rms = static_cast<const torch::optim::RMSpropOptions&>(
      dynamic_cast<torch::optim::RMSprop&>(*rmsprop).defaults());
  CHECK(rms.alpha() == 0.9);
  CHECK(rms.momentum() == 0.3);
  CHECK(rms.centered());
  CHECK(dynamic_cast<torch::optim::Adagrad*>(make_optimizer("adagrad", tensors, 0.01, 0, 0).get()) !=
        nullptr);
  const auto lbfgs = make_optimizer("lbfgs:iterations=5,line_search=strong_wolfe", tensors, 1, 0, 0);
  CHECK(static_cast<const torch::optim::LBFGSOptions&>(dynamic_cast<torch::optim::LBFGS&>(*lbfgs).defaults())
            .max_iter() == 5);
}

TEST_CASE("all but lbfgs step on what is in .grad", "[api][optimizer-names]") {
  for (const auto& info : optimizers()) {
    if (info.closure) continue;
    const auto tensors = parameters();
    make_optimizer(info.name, tensors, OptimizerSettings{0.1, {}, {}})->step();
    INFO(info.name);
    CHECK(tensors[0].detach().max().item<float>() < 1);
  }
  const auto tensors = parameters();
  make_optimizer("sgd", tensors, 0.1, 0, 0.5)->step();
  CHECK(tensors[0].detach()[0].item<float>() == Approx(1 - 0.1 * (0.5 + 0.5)));
}

TEST_CASE("the rate of all groups is set", "[api][optimizer-names]") {
  const auto optimizer = make_optimizer("adam", parameters(), 0.1, 0, 0);
  optimizer->add_param_group(torch::optim::OptimizerParamGroup(parameters()));
  set_learning_rate(*optimizer, 0.375);
  for (auto& group : optimizer->param_groups()) CHECK(group.options().get_lr() == 0.375);
}

TEST_CASE("what an optimizer does not take", "[api][optimizer-names]") {
  const auto fails = [](const std::string& spec, double momentum, double decay, const std::string& with) {
    CHECK_THROWS_WITH(make_optimizer(spec, parameters(), 0.1, momentum, decay), ContainsSubstring(with));
    CHECK_THROWS_AS(make_optimizer(spec, parameters(), 0.1, momentum, decay), acp::ConfigError);
  };
  fails("adm", 0, 0, "did you mean adam?");
  fails("sgd:nestrov=on", 0.9, 0, "nesterov");
  fails("sgd:nesterov=on", 0, 0, "needs a --momentum");
  fails("adam", 0.9, 0, "--momentum");
  fails("lbfgs", 0, 0.1, "--weight-decay");
  fails("adam:beta1=2", 0, 0, "beta1");
  fails("adam:beta1=1", 0, 0, "beta1");
  fails("lamb:beta2=1", 0, 0.01, "beta2");
  fails("sgd+adam", 0, 0, "compose");
  CHECK(check_optimizer("adam:beta2=0.98,beta1=0.9") == "adam:beta1=0.9,beta2=0.98");
}

TEST_CASE("LAMB by hand", "[api][optimizer-names]") {
  // Two steps with the gradients (3, 4) and (1, 0); mean (1 - b1) g, corrected g at step 1.
  const double lr = 0.1, b1 = 0.9, b2 = 0.99, eps = 0.01, decay = 0.5;
  const auto x = torch::tensor({{1.0, 2.0}}, torch::kDouble).requires_grad_();
  const auto bias = torch::tensor({1.0, 2.0}, torch::kDouble).requires_grad_();
  const auto lamb = make_optimizer("lamb:beta1=0.9,beta2=0.99,eps=0.01", {x, bias}, {lr, {}, decay});
  std::array<double, 2> expected{1, 2}, plain{1, 2}, m{}, v{};
  const std::array<std::array<double, 2>, 2> gradients{{{3, 4}, {1, 0}}};
  for (int t = 1; t <= 2; ++t) {
    std::array<double, 2> r{}, u{};
    for (std::size_t i = 0; i < 2; ++i) {
      const double g = gradients[static_cast<std::size_t>(t - 1)][i];
      m[i] = b1 * m[i] + (1 - b1) * g;
      v[i] = b2 * v[i] + (1 - b2) * g * g;
      r[i] = m[i] / (1 - std::pow(b1, t)) / (std::sqrt(v[i] / (1 - std::pow(b2, t))) + eps);
      u[i] = r[i] + decay * expected[i];
    }
    const double ratio = std::hypot(expected[0], expected[1]) / std::hypot(u[0], u[1]);
    for (std::size_t i = 0; i < 2; ++i) {
      expected[i] -= lr * ratio * u[i];
      plain[i] -= lr * r[i];  // of one dimension: neither decay nor trust ratio
    }
    const auto g = torch::tensor(
        {gradients[static_cast<std::size_t>(t - 1)][0], gradients[static_cast<std::size_t>(t - 1)][1]},
        torch::kDouble);
    x.mutable_grad() = g.unsqueeze(0);
    bias.mutable_grad() = g.clone();
    lamb->step();
    for (std::int64_t i = 0; i < 2; ++i) {
      CHECK(x[0][i].item<double>() == Approx(expected[static_cast<std::size_t>(i)]).epsilon(1e-12));
      CHECK(bias[i].item<double>() == Approx(plain[static_cast<std::size_t>(i)]).epsilon(1e-12));
    }
  }

  // vectors=on treats both alike; where a norm is 0 the ratio is 1.
  const auto alike = torch::tensor({1.0, 2.0}, torch::kDouble).requires_grad_();
  const auto matrix = torch::tensor({{1.0, 2.0}}, torch::kDouble).requires_grad_();
  const auto zero = torch::zeros({1, 2}, torch::TensorOptions(torch::kDouble).requires_grad(true));
  for (const auto& p : {alike, matrix, zero})
    p.mutable_grad() = torch::tensor({3.0, 4.0}, torch::kDouble).view(p.sizes()).clone();
  make_optimizer("lamb:vectors=on,eps=0", {alike, matrix, zero}, {lr, {}, decay})->step();
  CHECK(torch::equal(alike, matrix[0]));
  CHECK(zero[0][0].item<double>() == Approx(-lr).epsilon(1e-12));
}

TEST_CASE("LAMB is saved and loaded", "[api][optimizer-names]") {
  const auto start = [] { return torch::tensor({{1.F, 2.F}, {-1.F, 0.5F}}).requires_grad_(); };
  const auto step = [](torch::optim::Optimizer& optimizer, const at::Tensor& p, double gradient) {
    p.mutable_grad() = torch::full({2, 2}, gradient) * torch::tensor({1.F, -2.F});
    optimizer.step();
  };
  const auto p = start(), q = start();
  const auto one = make_optimizer("lamb:beta1=0.8,eps=1e-3,vectors=on", {p}, {0.1, {}, 0.25});
  step(*one, p, 1);
  std::stringstream stream;
  torch::save(*one, stream);
  const auto other = make_optimizer("lamb", {q}, {0.5, {}, {}});
  torch::load(*other, stream);
  const auto& options = static_cast<const LambOptions&>(other->param_groups()[0].options());
  CHECK(options.lr() == 0.1);
  CHECK(options.betas() == std::make_tuple(0.8, 0.999));
  CHECK(options.weight_decay() == 0.25);
  CHECK(options.adapt_vectors());
  {
    const torch::NoGradGuard no_gradients;
    q.copy_(p);
  }
  step(*one, p, 3);
  step(*other, q, 3);
  CHECK(torch::equal(p, q));
}
