// DistributedOptimizer is the optimizer that it wraps: every optimizer of libtorch, closures, schedulers,
// save/load.
#include <torch/torch.h>

#include <sstream>

#include "acp/context.h"
#include "acp/distributed_optimizer.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::test;

namespace {

torch::Tensor batch(int step, int rank) {
  return numbers(static_cast<std::uint64_t>(100 * step + rank), {4, 6});
}

// Parameters after `steps` steps of `make(parameters)` on the union of all ranks' batches, in one process.
template <class Make>
torch::Tensor single_process(int ranks, int steps, Make make) {
  Mlp model = make_mlp();
  auto optimizer = make(model->parameters());
  for (int step = 0; step < steps; ++step) {
    const auto closure = [&] {
      optimizer.zero_grad();
      torch::Tensor loss = torch::zeros({});
      for (int r = 0; r < ranks; ++r) loss = loss + model->forward(batch(step, r)).pow(2).mean() / ranks;
      loss.backward();
      return loss;
    };
    optimizer.step(closure);
  }
  return flatten(model->parameters());
}

template <class Make>
void same_as_single_process(Make make, double tolerance) {
  constexpr int ranks = 2;
  constexpr int steps = 6;
  const torch::Tensor expected = single_process(ranks, steps, make);
  run_local(ranks, [&](Context& context) {
    Mlp model = make_mlp();
    DistributedOptimizer optimizer(make(model->parameters()), model->named_parameters());
    for (int step = 0; step < steps; ++step) {
      optimizer.step([&] {
        optimizer.zero_grad();
        torch::Tensor loss = model->forward(batch(step, context.rank())).pow(2).mean();
        loss.backward();
        return loss;
      });
    }
    const torch::Tensor mine = flatten(model->parameters());
    const double error = ((mine - expected).norm() / expected.norm()).item<double>();
    require(error < tolerance, "relative difference " + std::to_string(error));
  });
}

// A user-defined optimizer: the sign of the gradient.
struct SignDescentOptions : torch::optim::OptimizerCloneableOptions<SignDescentOptions> {};
class SignDescent : public torch::optim::Optimizer {
 public:
  explicit SignDescent(std::vector<torch::Tensor> parameters)
      : Optimizer({torch::optim::OptimizerParamGroup(std::move(parameters))},
                  std::make_unique<SignDescentOptions>()) {}
  torch::Tensor step(LossClosure closure = nullptr) override {
    torch::Tensor loss;
    if (closure) {
      const torch::AutoGradMode enable(true);
      loss = closure();
    }
    const torch::NoGradGuard no_grad;
    for (auto& group : param_groups()) {
      for (auto& p : group.params()) {
        if (p.grad().defined()) p.sub_(0.01 * p.grad().sign());
      }
    }
    return loss;
  }
};

}  // namespace

TEST_CASE("every optimizer of libtorch trains as in one process", "[api][optimizer]") {
  namespace o = torch::optim;
  using P = std::vector<torch::Tensor>;
  SECTION("SGD") {
    same_as_single_process([](P p) { return o::SGD(p, o::SGDOptions(0.1).momentum(0.9).weight_decay(0.01)); },
                           1e-6);
  }
  SECTION("Adam") {
    same_as_single_process([](P p) { return o::Adam(p, o::AdamOptions(0.01)); }, 1e-5);
  }
  SECTION("AdamW") {
    same_as_single_process([](P p) { return o::AdamW(p, o::AdamWOptions(0.01)); }, 1e-5);
  }
  SECTION("RMSprop") {
    same_as_single_process([](P p) { return o::RMSprop(p, o::RMSpropOptions(0.01)); }, 1e-5);
  }
  SECTION("Adagrad") {
    same_as_single_process([](P p) { return o::Adagrad(p, o::AdagradOptions(0.1)); }, 1e-5);
  }
  SECTION("LBFGS") {
    same_as_single_process([](P p) { return o::LBFGS(p, o::LBFGSOptions(0.1).max_iter(5)); }, 1e-4);
  }
  SECTION("LBFGS with line search") {
    same_as_single_process(
        [](P p) { return o::LBFGS(p, o::LBFGSOptions(0.5).max_iter(4).line_search_fn("strong_wolfe")); },
        1e-4);
  }
  SECTION("user-defined") {
    same_as_single_process([](P p) { return SignDescent(p); }, 1e-6);
  }
}

TEST_CASE("a closure's loss is the mean over the ranks", "[api][optimizer]") {
  run_local(3, [](Context& context) {
    torch::Tensor w = torch::zeros({1}, torch::requires_grad());
    DistributedOptimizer optimizer(torch::optim::SGD(std::vector<torch::Tensor>{w}, 0.1),
                                   NamedTensors{{"w", w}});
    const torch::Tensor loss = optimizer.step([&] {
      optimizer.zero_grad();
      torch::Tensor local = (w + context.rank()).sum();
      local.backward();
      return local;
    });
    require(std::abs(loss.item<double>() - 1.0) < 1e-6, "mean of 0, 1, 2");
  });
}

TEST_CASE("it is the optimizer that it wraps", "[api][optimizer]") {
  run_local(2, [](Context& context) {
    Mlp model = make_mlp();
    DistributedOptimizer optimizer(
        torch::optim::SGD(model->parameters(), torch::optim::SGDOptions(1.0).momentum(0.9)),
        model->named_parameters());
    torch::optim::Optimizer& plain = optimizer;
    torch::optim::StepLR schedule(plain, 1, 0.5);
    const auto train = [&](torch::optim::Optimizer& by, Mlp& net) {
      by.zero_grad();
      net->forward(batch(0, context.rank())).pow(2).mean().backward();
      by.step();
    };
    train(plain, model);
    schedule.step();  // libtorch's first call changes nothing yet
    schedule.step();
    require(static_cast<torch::optim::SGDOptions&>(optimizer.param_groups()[0].options()).lr() == 0.5,
            "scheduler");

    std::stringstream stream;
    torch::save(plain, stream);
    Mlp copy = make_mlp();
    {
      const torch::NoGradGuard no_grad;
      for (std::size_t i = 0; i < copy->parameters().size(); ++i)
        copy->parameters()[i].copy_(model->parameters()[i]);
    }
    DistributedOptimizer restored(
        torch::optim::SGD(copy->parameters(), torch::optim::SGDOptions(1.0).momentum(0.9)),
        copy->named_parameters());
    torch::load(static_cast<torch::optim::Optimizer&>(restored), stream);
    train(plain, model);
    train(restored, copy);
    require(torch::equal(flatten(model->parameters()), flatten(copy->parameters())),
            "momentum was saved and loaded");
  });
}

TEST_CASE("unnamed parameters are numbered by group and index", "[api][optimizer]") {
  run_local(1, [](Context&) {
    torch::Tensor a = torch::zeros({1}, torch::requires_grad());
    torch::Tensor b = torch::zeros({1}, torch::requires_grad());
    torch::Tensor c = torch::zeros({1}, torch::requires_grad());
    std::vector<torch::optim::OptimizerParamGroup> groups{torch::optim::OptimizerParamGroup({a, b}),
                                                          torch::optim::OptimizerParamGroup({c})};
    DistributedOptimizer optimizer(torch::optim::SGD(groups, torch::optim::SGDOptions(0.1)));
    require(optimizer.reducer().names() == std::vector<std::string>{"0.0", "0.1", "1.0"}, "names");
  });
}

static_assert(!std::is_copy_constructible_v<DistributedOptimizer<torch::optim::SGD>>);
static_assert(!std::is_move_constructible_v<DistributedOptimizer<torch::optim::SGD>>);
static_assert(!std::is_copy_constructible_v<GradientReducer> &&
              !std::is_move_constructible_v<GradientReducer>);
