// Squares of gradients for `variance`, given by the program or counted over passes; the measured error.
#include <torch/torch.h>

#include "acp/context.h"
#include "acp/distributed_optimizer.h"
#include "comm/error.h"
#include "compressors/residual.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::test;

namespace {

// What the compressor holds of the only parameter after one step of gradients 1..m x (1, 2, 3).
at::Tensor variance_after(int passes, bool hooks, const at::Tensor& squares) {
  at::Tensor variance;
  run_local(1, [&](Context&) {
    auto p = torch::zeros({3}, torch::requires_grad());
    // Nothing stands out of a variance times 1e9, so it is not reset.
    GradientReducer reducer(
        {{"p", p}},
        Options().compressor("variance:alpha=1e9,zeta=1").backward_passes_per_step(passes).hooks(hooks));
    if (squares.defined()) reducer.set_squares("p", squares);
    for (int pass = 1; pass <= passes; ++pass)
      (p * torch::tensor({1.F, 2.F, 3.F})).sum().mul(pass).backward();
    hooks ? reducer.synchronize() : reducer.reduce();
    variance = find_state(reducer.state(), "p", "select.variance").clone();
  });
  return variance;
}

}  // namespace

TEST_CASE("squares: the passes of a step are its samples", "[api][squares]") {
  CHECK(torch::equal(variance_after(1, true, {}), torch::tensor({1.F, 4.F, 9.F})));
  // 1 + 4 + 9 = 14 times the squares of one pass; the square of the sum would be 36 times them.
  CHECK(torch::equal(variance_after(3, true, {}), torch::tensor({14.F, 56.F, 126.F})));
}

TEST_CASE("squares: those that the program gives", "[api][squares]") {
  const auto given = torch::tensor({5.F, 6.F, 7.F});
  CHECK(torch::equal(variance_after(1, true, given), given));
  CHECK(torch::equal(variance_after(3, true, given), given));
  CHECK(torch::equal(variance_after(1, false, given), given));
}

TEST_CASE("squares: mistakes are named", "[api][squares]") {
  run_local(1, [](Context&) {
    auto p = torch::zeros({3}, torch::requires_grad());
    GradientReducer reducer({{"p", p}}, Options().compressor("variance"));
    const auto give = [&](const std::string& name, const at::Tensor& x) { reducer.set_squares(name, x); };
    require(message_of<ConfigError>([&] { give("q", torch::ones({3})); }).find("\"q\"") != std::string::npos,
            "name");
    require(message_of<ConfigError>([&] { give("p", torch::ones({4})); }).find("[4]") != std::string::npos,
            "shape");
    require(!message_of<DataError>([&] { give("p", -torch::ones({3})); }).empty(), "negative");
    require(!message_of<DataError>([&] { give("p", torch::ones({3}) / 0); }).empty(), "infinite");
    p.sum().backward();
    require(
        message_of<Error>([&] { give("p", torch::ones({3})); }).find("inside a step") != std::string::npos,
        "when");
    reducer.synchronize();

    auto other = torch::zeros({3}, torch::requires_grad());
    GradientReducer topk({{"p", other}}, Options().compressor("topk"));
    require(!message_of<ConfigError>([&] { topk.set_squares("p", torch::ones({3})); }).empty(), "no use");
  });
}

TEST_CASE("the compression error: what the messages lack, relative", "[api][squares]") {
  // Gradient (3, 4, 0, 0): top-k keeps the 4 and leaves the 3 of 5.
  double squared = 0;
  const auto error = [&](const std::string& spec, const std::string& memory,
                         at::ScalarType type = torch::kFloat) {
    double sum = 0;
    run_local(2, [&](Context& context) {
      auto p = torch::zeros({2, 2}, torch::TensorOptions(type).requires_grad(true));
      GradientReducer reducer({{"p", p}}, Options().compressor(spec).memory(memory).compression_error(true));
      (p * torch::tensor({{3.F, 4.F}, {0.F, 0.F}})).sum().backward();
      reducer.synchronize();
      if (context.rank() != 1) return;
      sum = reducer.statistics().compression_error;
      squared = reducer.statistics().compression_error_squared;
    });
    return sum;
  };
  CHECK(error("none", "") == 0);
  CHECK(squared == 0);
  for (const auto* memory : {"none", "residual", "dgc"}) {
    CHECK(error("topk:ratio=0.25", memory) == Approx(0.6));
    CHECK(squared == Approx(9));
    CHECK(error("topk:ratio=0.25,exchange=tree", memory) == Approx(0.6));
  }
  CHECK(error("topk:ratio=0.25", "residual", torch::kDouble) == Approx(0.6));
  // Signs times the mean 7/4: off by 5/4, 9/4, 7/4, 7/4.
  CHECK(error("efsignsgd", "residual") == Approx(std::sqrt(25 + 81 + 49 + 49) / 4 / 5));
  // Rank 0 sums all of so small a matrix; rank 1 codes what it sends to it.
  CHECK(error("efsignsgd:exchange=scatter", "residual") == Approx(error("efsignsgd", "residual")));
  CHECK(error("randomk:ratio=1", "none") == 0);
  // A matrix of rank 1 passes by its column space, and not by another.
  CHECK(error("acpsgd:rank=2", "residual") < 1e-3);
  const double one = error("powersgd:rank=1,min_rate=0", "residual");
  CHECK(one < 1e-3);
  CHECK(error("acpsgd:rank=1", "none") == Approx(error("acpsgd:rank=1", "residual")).margin(1e-6));
  CHECK(error("bf16", "none") < 0.01);
}
