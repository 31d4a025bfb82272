// Optimizers by name: the right class with the right settings, and what is refused.
#include <torch/torch.h>

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
  fails("sgd+adam", 0, 0, "compose");
  CHECK(check_optimizer("adam:beta2=0.98,beta1=0.9") == "adam:beta1=0.9,beta2=0.98");
}
