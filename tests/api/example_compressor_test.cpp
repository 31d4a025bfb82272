// The example of docs/add-a-compressor.md, which is compiled into these tests.
#include <torch/torch.h>

#include "acp/compressed.h"
#include "acp/context.h"
#include "acp/distributed_optimizer.h"
#include "compressors/residual.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::test;

TEST_CASE("the example compressor sends what it says", "[api][docs]") {
  run_local(2, [](Context& context) {
    Compressed compressed("abovemean:times=2");
    const auto x = numbers(static_cast<std::uint64_t>(context.rank()), {400});
    auto expected = torch::zeros({400});
    for (std::uint64_t r : {0, 1}) {
      const auto y = numbers(r, {400});
      expected += torch::where(y.abs() >= 2 * y.abs().mean(), y, torch::zeros_like(y)) / 2;
    }
    auto result = x.clone();
    compressed.all_reduce(result, "x");
    require(torch::allclose(result, expected), "the elements above twice the mean");
    const auto error = find_state(compressed.state(), "x", "error");
    require(
        (error.count_nonzero() < 400).item<bool>() && (error.abs() < 2 * x.abs().mean()).all().item<bool>(),
        "the others are kept");
  });
}

TEST_CASE("the example compressor trains, with granularities and policies of its own", "[api][docs]") {
  for (const std::string granularity : {"layer", "bucket", "model"}) {
    run_local(2, [&](Context& context) {
      Mlp model = make_mlp();
      DistributedOptimizer optimizer(torch::optim::SGD(model->parameters(), 0.05), model->named_parameters(),
                                     Options().compressor("abovemean:times=1.5").granularity(granularity));
      const auto x = numbers(static_cast<std::uint64_t>(context.rank()), {16, 6});
      double first = 0, last = 0;
      for (int step = 0; step < 60; ++step) {
        optimizer.zero_grad();
        const auto loss = (model->forward(x) - 1).pow(2).mean();
        loss.backward();
        optimizer.step();
        (step == 0 ? first : last) = loss.item<double>();
      }
      require(last < 0.5 * first, "the loss falls");
    });
  }
}
