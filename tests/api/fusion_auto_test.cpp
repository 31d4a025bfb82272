// fusion_mb "auto": all ranks take the same size, whatever their own backward passes took.
#include <chrono>
#include <mutex>
#include <thread>

#include "acp/acp.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::test;

namespace {

// One step and its gradients. `slow`: the gradients of this rank arrive one by one, far apart.
torch::Tensor gradients_of_step(GradientReducer& reducer, Mlp& model, const Context& context, bool slow) {
  model->zero_grad();
  torch::Tensor x = numbers(static_cast<std::uint64_t>(context.rank()), {4, 6});
  for (std::size_t i = 0; i < model->layers.size(); ++i) {
    x = torch::tanh(model->layers[i]->forward(x));
    if (slow) {
      x.register_hook([](const torch::Tensor& grad) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return grad;
      });
    }
  }
  x.pow(2).mean().backward();
  reducer.synchronize();
  std::vector<torch::Tensor> grads;
  for (auto& p : model->parameters()) grads.push_back(p.grad());
  return flatten(grads);
}

}  // namespace

TEST_CASE("auto: one size on all ranks, and the gradients of any size", "[api][fusion-auto]") {
  const std::string compressor = GENERATE("none", "acpsgd:rank=2", "powersgd:rank=2,min_rate=0.1");
  std::mutex mutex;
  std::vector<double> sizes;
  run_local(2, [&](Context& context) {
    const bool slow = context.rank() == 1;
    const auto run = [&](const Options& options) {
      Mlp model = make_mlp(1, {6, 40, 40, 3});
      GradientReducer reducer(named_tensors(model->named_parameters()), options);
      require(!reducer.fusion_mb(), "nothing is planned before the first step");
      std::vector<torch::Tensor> all;
      for (int step = 0; step < 3; ++step) all.push_back(gradients_of_step(reducer, model, context, slow));
      const auto size = reducer.fusion_mb();
      require(size.has_value(), "a plan has a size");
      return std::pair(torch::cat(all), *size);
    };
    const auto [chosen, size] = run(Options().compressor(compressor).fusion_mb("auto"));
    const auto [given, same] = run(Options().compressor(compressor).fusion_mb(size));
    require(size == same && torch::equal(chosen, given), "as with the size that was chosen");
    require(torch::equal(chosen, run(Options().compressor(compressor).fusion_mb(0)).first),
            "as with any size");
    const std::lock_guard lock(mutex);
    sizes.push_back(size);
  });
  REQUIRE(sizes.size() == 2);
  CHECK(sizes[0] == sizes[1]);
}

TEST_CASE("auto: the choice is part of the state", "[api][fusion-auto]") {
  run_local(2, [&](Context& context) {
    const auto options = Options().compressor("acpsgd:rank=2").fusion_mb("auto");
    Mlp first = make_mlp();
    GradientReducer before(named_tensors(first->named_parameters()), options);
    gradients_of_step(before, first, context, false);
    const State saved = before.state();
    Mlp second = make_mlp();
    GradientReducer after(named_tensors(second->named_parameters()), options);
    after.load_state(saved);
    require(after.fusion_mb() == before.fusion_mb() && after.fusion_mb(), "the same plan");
    require(torch::equal(gradients_of_step(before, first, context, false),
                         gradients_of_step(after, second, context, false)),
            "the same gradients");
  });
}

TEST_CASE("auto on one rank and a size on another is an error that names both", "[api][fusion-auto]") {
  std::vector<std::string> messages(2);
  run_local(2, [&](Context& context) {
    Mlp model = make_mlp();
    const auto options = context.rank() == 0 ? Options().fusion_mb("auto") : Options().fusion_mb(25);
    messages[static_cast<std::size_t>(context.rank())] = message_of<ConfigError>(
        [&] { GradientReducer reducer(named_tensors(model->named_parameters()), options); });
  });
  for (const auto& message : messages) {
    CHECK_THAT(message, ContainsSubstring("fusion_mb=auto") && ContainsSubstring("fusion_mb=25"));
  }
}

TEST_CASE("auto: a compressor that wants the model in one bucket has no size to choose",
          "[api][fusion-auto]") {
  run_local(2, [&](Context& context) {
    Mlp model = make_mlp();
    GradientReducer reducer(named_tensors(model->named_parameters()),
                            Options().compressor("globaltopk:ratio=0.1").fusion_mb("auto"));
    gradients_of_step(reducer, model, context, false);
    require(!reducer.fusion_mb(), "no size");
  });
}
