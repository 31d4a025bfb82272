// NaN and infinity in gradients: an error that names rank and parameter, or a step that all ranks leave out.
#include <torch/torch.h>

#include <limits>

#include "acp/context.h"
#include "acp/distributed_optimizer.h"
#include "comm/error.h"
#include "compressors/residual.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::test;

namespace {

using torch::optim::SGD;
using torch::optim::SGDOptions;

const float bad_values[]{std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};

// A backward pass of this rank; `bad` goes into layer1.weight's gradient.
void backward(Mlp& model, int rank, std::uint64_t step, const float* bad = nullptr) {
  auto loss = model->forward(numbers(100 * step + static_cast<std::uint64_t>(rank), {4, 6})).pow(2).mean();
  auto weight = model->named_parameters()["layer1.weight"];
  if (bad != nullptr) loss = loss + (weight.view(-1)[3] * *bad);
  loss.backward();
}

torch::Tensor weights(Mlp& model) {
  return flatten(model->parameters());
}

}  // namespace

TEST_CASE("nonfinite=error names rank and parameter, also for dense compressors", "[api][nonfinite]") {
  for (const std::string spec : {"none", "fp16", "topk:ratio=0.1", "acpsgd:rank=2"}) {
    for (const bool overlap : {true, false}) {
      for (const float bad : bad_values) {
        const auto message = message_of<DataError>([&] {
          run_local(2, [&](Context& context) {
            Mlp model = make_mlp();
            GradientReducer reducer(named_tensors(model->named_parameters()),
                                    Options().compressor(spec).nonfinite("error").overlap(overlap));
            for (std::uint64_t step = 0; step < 3; ++step) {
              model->zero_grad();
              backward(model, context.rank(), step, step == 2 && context.rank() == 1 ? &bad : nullptr);
              reducer.synchronize();
            }
          });
        });
        CAPTURE(spec, overlap, bad, message);
        CHECK_THAT(message, ContainsSubstring("rank 1") && ContainsSubstring("layer1.weight"));
      }
    }
  }
}

TEST_CASE("nonfinite=auto: dense compressors hand NaN on, the others refuse it", "[api][nonfinite]") {
  run_local(2, [](Context& context) {
    Mlp model = make_mlp();
    GradientReducer reducer(named_tensors(model->named_parameters()));
    backward(model, context.rank(), 0, context.rank() == 1 ? bad_values : nullptr);
    reducer.synchronize();
    require(model->named_parameters()["layer1.weight"].grad().isnan().any().item<bool>(),
            "NaN on both ranks");
    require(!reducer.skipped(), "nothing is left out");
  });
  const auto message = message_of<DataError>([] {
    run_local(2, [](Context& context) {
      Mlp model = make_mlp();
      GradientReducer reducer(named_tensors(model->named_parameters()), Options().compressor("powersgd"));
      backward(model, context.rank(), 0, context.rank() == 1 ? bad_values : nullptr);
      reducer.synchronize();
    });
  });
  CHECK_THAT(message, ContainsSubstring("rank 1") && ContainsSubstring("layer1.weight"));
}

TEST_CASE("nonfinite=skip: all ranks leave the step out and go on as if it had not been",
          "[api][nonfinite]") {
  for (const std::string spec :
       {"none", "topk:ratio=0.1", "randomk:ratio=0.2", "powersgd:rank=2,min_rate=0"}) {
    for (const float bad : bad_values) {
      run_local(3, [&](Context& context) {
        Mlp model = make_mlp(), other = make_mlp();
        const auto options = Options().compressor(spec).nonfinite("skip");
        DistributedOptimizer optimizer(SGD(model->parameters(), SGDOptions(0.1).momentum(0.9)),
                                       model->named_parameters(), options);
        DistributedOptimizer reference(SGD(other->parameters(), SGDOptions(0.1).momentum(0.9)),
                                       other->named_parameters(), options);
        for (std::uint64_t step = 0; step < 6; ++step) {
          const bool breaks = step == 0 || step == 3;
          optimizer.zero_grad(step % 2 == 0);
          backward(model, context.rank(), step, breaks && context.rank() == 2 ? &bad : nullptr);
          const auto before = weights(model);
          optimizer.step();
          require(optimizer.reducer().skipped() == breaks, "every rank knows");
          if (breaks) {
            require(torch::equal(before, weights(model)), "no update");
            for (auto& p : model->parameters()) require((p.grad() == 0).all().item<bool>(), "zero gradients");
            continue;
          }
          reference.zero_grad();
          backward(other, context.rank(), step);
          reference.step();
          require(torch::equal(weights(model), weights(other)), spec + ": as if it had not been");
        }
        require(optimizer.reducer().statistics().skipped == 2, "counted");
        require(optimizer.reducer().statistics().steps == 4, "not counted as a reduction");
      });
    }
  }
}

TEST_CASE("nonfinite=skip works with accumulation, synchronize() before step(), guards and closures",
          "[api][nonfinite]") {
  run_local(2, [](Context& context) {
    Mlp model = make_mlp();
    DistributedOptimizer optimizer(SGD(model->parameters(), 0.1), model->named_parameters(),
                                   Options().nonfinite("skip").backward_passes_per_step(2));
    const auto* bad = context.rank() == 0 ? bad_values : nullptr;
    auto before = weights(model);
    backward(model, context.rank(), 0, bad);  // in the pass that is not reduced
    backward(model, context.rank(), 1);
    optimizer.synchronize();
    require(optimizer.reducer().skipped(), "seen");
    optimizer.step();
    require(torch::equal(before, weights(model)), "no update after synchronize()");

    optimizer.zero_grad();
    {
      const auto guard = optimizer.skip_synchronize();
      backward(model, context.rank(), 2);
      optimizer.step();
    }
    require(!torch::equal(before, weights(model)), "local steps are not held back by an earlier step");
    require(!optimizer.reducer().skipped(), "forgotten");
  });
  run_local(2, [](Context& context) {
    Mlp model = make_mlp();
    DistributedOptimizer optimizer(SGD(model->parameters(), 0.1), model->named_parameters(),
                                   Options().nonfinite("skip"));
    const auto before = weights(model);
    optimizer.step([&] {
      optimizer.zero_grad();
      backward(model, context.rank(), 0, context.rank() == 0 ? bad_values : nullptr);
      return torch::zeros({});
    });
    require(torch::equal(before, weights(model)), "a closure's optimizer sees zeros");
  });
}
