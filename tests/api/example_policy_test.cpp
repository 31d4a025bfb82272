// The example of docs/first-policy.md, which is compiled into these tests.
#include "acp/distributed_optimizer.h"
#include "comm/error.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::test;

TEST_CASE("the example policy halves what is kept", "[api][docs]") {
  run_local(2, [](Context& context) {
    Mlp model = make_mlp();
    DistributedOptimizer optimizer(
        torch::optim::SGD(model->parameters(), 0.05), model->named_parameters(),
        Options().compressor("topk:ratio=0.4").policy("halving:every=3,least=0.1,warmup=1"));
    std::vector<double> kept;
    for (std::uint64_t step = 0; step < 12; ++step) {
      optimizer.zero_grad();
      model->forward(numbers(step + 100 * static_cast<std::uint64_t>(context.rank()), {4, 6}))
          .pow(2)
          .mean()
          .backward();
      optimizer.step();
      kept.push_back(optimizer.reducer().levels()[0].second.value_or(0));  // of the coming step
    }
    require(kept == std::vector<double>{.4, .4, .2, .2, .2, .1, .1, .1, .1, .1, .1, .1}, "ratios");
    require(optimizer.reducer().statistics().plan_changes == 3, "warm-up's end and two halvings");
    const auto refused = message_of<ConfigError>([&] {
      GradientReducer(named_tensors(model->named_parameters()),
                      Options().compressor("powersgd").policy("halving"));
    });
    require(refused.find("sets ratio") != std::string::npos, refused);
  });
}
