// Power-SGD and ACP-SGD: which matrices are compressed, warm-up, ranks set by policies, state, preparation.
#include <ATen/ATen.h>

#include "comm/error.h"
#include "compressors/residual.h"
#include "tests/catch.h"
#include "tests/support/rank_driver.h"

using namespace acp;

namespace {

const Shapes net{{"w", {12, 20}}, {"b", {12}}, {"conv", {16, 3, 3, 3}}, {"small", {4, 3}}};

std::set<std::string> compressed(const std::string& spec) {
  const auto names = each_rank(1, [&](Communicator& communicator) {
    RankDriver driver(spec, net, communicator);
    std::set<std::string> result;
    for (const auto& [name, kinds] : driver.compressor().state()) {
      if (kinds.contains("p")) result.insert(name);
    }
    return result;
  });
  return names[0];
}

at::Tensor average(const std::string& name, int size, std::uint64_t step) {
  auto sum = random_gradients(net, 0, step).at(name).to(at::kDouble);
  for (int rank = 1; rank < size; ++rank) sum += random_gradients(net, rank, step).at(name);
  return sum / size;
}

double off(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace

TEST_CASE("each form compresses the matrices that its rule names", "[ranks]") {
  using Names = std::set<std::string>;
  CHECK(compressed("acpsgd") == Names{"w", "conv", "small"});
  // (n + m) / 2 * r * rate < n m:  w 64 * rate < 240, conv 86 * rate < 432, small 10.5 * rate < 12
  CHECK(compressed("acpsgd:min_rate=1") == Names{"w", "conv", "small"});
  CHECK(compressed("acpsgd:min_rate=3") == Names{"w", "conv"});
  CHECK(compressed("acpsgd:min_rate=4") == Names{"conv"});
  // (n + m) r rate < n m:  w 128, conv 172, small 21
  CHECK(compressed("powersgd:min_rate=1") == Names{"w", "conv"});
  CHECK(compressed("powersgd") == Names{"conv"});
  CHECK(compressed("powersgd:min_rate=1.875") == Names{"conv"});  // 240 < 240 does not hold
  CHECK(compressed("powersgd:form=rankk") == Names{"w", "conv", "small"});
  CHECK(compressed("powersgd:form=halfrankk") == Names{"w", "conv", "small"});
  // numel / (0.5 K r' sum(shape)) > 2, r' from the tensor's own shape:  conv 432 / (1.5 * 25), w 240 / 64
  CHECK(compressed("powersgd:form=alternating") == Names{"w", "conv"});
  CHECK(compressed("powersgd:form=alternating,iterations=2") == Names{"conv"});
}

TEST_CASE("options that exclude each other are refused in one line", "[unit]") {
  CHECK_THROWS_AS(CompressorFactory("powersgd:rank=0", {}), ConfigError);
  CHECK_THROWS_WITH(CompressorFactory("acpsgd:rank=two", {}),
                    "acpsgd: rank=two is not a whole number from 1 to 1e+06");
  CHECK_THROWS_WITH(CompressorFactory("powersgd:form=alternating,error=global", {}),
                    ContainsSubstring("error=global needs form=ddp or rankk"));
  CHECK_THROWS_WITH(CompressorFactory("powersgd:form=halfrankk,warm_start=off", {}),
                    ContainsSubstring("warm_start=off needs form=ddp or rankk"));
  CHECK_THROWS_WITH(CompressorFactory("powersgd:form=dpd", {}), ContainsSubstring("did you mean \"ddp\"?"));
  CHECK_THROWS_WITH(CompressorFactory("acpsgd", {.memory = "residaul"}),
                    ContainsSubstring("did you mean \"residual\"?"));
  CHECK(CompressorFactory("acpsgd", {}).memory() == "residual");
  CHECK(CompressorFactory("acpsgd", {.memory = "none"}).memory() == "none");
}

TEST_CASE("the first steps are dense, and leave error memory and factors alone", "[ranks]") {
  for (const std::string spec : {"acpsgd:start=2", "powersgd:start=2,min_rate=0"}) {
    const auto results = each_rank(2, [&](Communicator& communicator) {
      RankDriver driver(spec, net, communicator);
      std::vector<double> differences;
      for (std::uint64_t step = 0; step < 4; ++step) {
        const auto averages = driver.step(random_gradients(net, communicator.rank(), step));
        differences.push_back(off(averages.at("conv"), average("conv", 2, step)));
        differences.push_back(driver.compressor().state().at("conv").at("error").abs().max().item<double>());
      }
      return differences;
    });
    CAPTURE(spec);
    for (const std::size_t dense : {0, 2}) {
      CHECK(results[0][dense] < 1e-6);
      CHECK(results[0][dense + 1] == 0);
    }
    for (const std::size_t compressed : {4, 6}) {
      CHECK(results[0][compressed] > 0.1);
      CHECK(results[0][compressed + 1] > 0.1);
    }
  }
}

// What a step leaves out is taken from the error memory in the next step's pass over it, or when somebody
// looks.
TEST_CASE("looking at the error memory changes nothing, and it holds what a step left out", "[ranks]") {
  const std::string spec =
      GENERATE("acpsgd:rank=2", "acpsgd:rank=9", "powersgd:form=alternating,rank=1,iterations=2");
  const auto same = each_rank(2, [&](Communicator& communicator) {
    RankDriver seldom(spec, net, communicator), often(spec, net, communicator);
    bool equal = true, complete = true;
    at::Tensor left = at::zeros({16, 3, 3, 3});
    for (std::uint64_t step = 0; step < 6; ++step) {
      const auto gradients = random_gradients(net, communicator.rank(), step);
      if (step == 3) seldom.compressor().load_state(seldom.compressor().state());
      const auto a = seldom.step(gradients), b = often.step(gradients);
      for (const auto& [name, average] : a) equal = equal && at::equal(average, b.at(name));
      // Of both ranks: what they had, less what was sent, is what they keep.
      const auto error = often.compressor().state().at("conv").at("error");
      const auto sums = [&](const at::Tensor& x) {
        auto sum = x.clone();
        perform(communicator, Collective::all_reduce(sum, ReduceOp::average));
        return sum;
      };
      complete = complete && off(sums(error), sums(left + gradients.at("conv")) - b.at("conv")) < 1e-5;
      left = error;
    }
    return std::pair(
        equal && at::equal(seldom.compressor().state().at("conv").at("error"),
                           often.compressor().error_memory().narrow(0, 252, 432).view({16, 3, 3, 3})),
        complete);
  });
  CAPTURE(spec);
  for (const auto& [equal, complete] : same) {
    CHECK(equal);
    CHECK(complete);
  }
}

TEST_CASE("the factors' start depends on seed and name, not on rank, width or bucket", "[ranks]") {
  const auto states = each_rank(2, [&](Communicator& communicator) {
    RankDriver narrow("acpsgd:rank=2", {net[0]}, communicator), wide("acpsgd:rank=4", net, communicator);
    return std::pair(narrow.compressor().state(), wide.compressor().state());
  });
  for (const std::string kind : {"p", "q"}) {
    const auto& wide = states[0].second.at("w").at(kind);
    CHECK(at::equal(states[0].first.at("w").at(kind), wide.narrow(1, 0, 2)));
    CHECK(at::equal(states[1].second.at("w").at(kind), wide));
    CHECK(std::abs(wide.std().item<double>() - 1) < 0.4);
  }
  CHECK_FALSE(at::equal(states[0].second.at("w").at("p").flatten().narrow(0, 0, 12),
                        states[0].second.at("conv").at("p").flatten().narrow(0, 0, 12)));
}

TEST_CASE("ACP-SGD sends one message a step, Power-SGD two, of P and Q in turn", "[ranks]") {
  // rank 2: P of w, conv, small has (12 + 16 + 4) * 2 numbers, Q (20 + 27 + 3) * 2; b and the count ride
  // along.
  const std::int64_t p = 4 * (64 + 12 + 1), q = 4 * (100 + 12 + 1);
  const auto results = each_rank(2, [&](Communicator& communicator) {
    std::vector<std::vector<std::int64_t>> sizes;
    RankDriver acp("acpsgd:rank=2", net, communicator), ddp("powersgd:rank=2,min_rate=0", net, communicator);
    RankDriver later("powersgd:form=alternating,rank=2,min_rate=0", net, communicator);
    for (auto* driver : {&acp, &ddp, &later}) {
      for (std::uint64_t step = 0; step < 3; ++step) {
        driver->step(random_gradients(net, communicator.rank(), step));
        sizes.push_back(driver->message_bytes);
      }
    }
    return sizes;
  });
  const std::vector<std::int64_t> both{p, 4 * 100};
  CHECK(results[0] == std::vector<std::vector<std::int64_t>>{{p}, {q}, {p}, both, both, both, {q}, {p}, {q}});
}

TEST_CASE("a matrix of the rank in use passes exactly", "[ranks]") {
  const Shapes shapes{{"w", {30, 40}}};
  const auto results = each_rank(3, [&](Communicator& communicator) {
    const auto u = random_gradients({{"u", {30, 2}}}, 0, 0).at("u"),
               v = random_gradients({{"v", {2, 40}}}, 0, 0).at("v");
    const auto gradient = at::mm(u, v);
    RankDriver two("powersgd:rank=2", shapes, communicator),
        alternating("acpsgd:rank=2", shapes, communicator);
    const double at_once = off(two.step({{"w", gradient}}).at("w"), gradient);
    alternating.step({{"w", gradient}});
    alternating.step({{"w", at::zeros_like(gradient)}});  // the error memory sends the rest
    return std::pair(at_once,
                     alternating.compressor().state().at("w").at("error").abs().max().item<double>());
  });
  for (const auto& [at_once, left] : results) {
    CHECK(at_once < 1e-3);
    CHECK(left < 1e-3);
  }
}

TEST_CASE("preparing early, late, twice or before a load makes no difference", "[ranks]") {
  for (const std::string spec :
       {"acpsgd:rank=2", "powersgd:rank=2,min_rate=0", "powersgd:rank=2,warm_start=off"}) {
    const auto results = each_rank(2, [&](Communicator& communicator) {
      RankDriver early(spec, net, communicator), never(spec, net, communicator),
          twice(spec, net, communicator);
      bool equal = true;
      for (std::uint64_t step = 0; step < 4; ++step) {
        const auto gradients = random_gradients(net, communicator.rank(), step);
        twice.compressor().prepare(twice.bucket(), {communicator.rank(), 2, step, RankDriver::seed});
        const auto a = early.step(gradients), b = never.step(gradients, false), c = twice.step(gradients);
        for (const auto& [name, value] : a)
          equal = equal && at::equal(value, b.at(name)) && at::equal(value, c.at(name));
      }
      return equal ? 1 : 0;
    });
    CAPTURE(spec);
    CHECK(results == std::vector<int>{1, 1});
  }
}

TEST_CASE("without error memory each step forgets what it left out", "[ranks]") {
  for (const std::string spec :
       {"acpsgd:rank=2", "powersgd:rank=2,min_rate=0", "powersgd:form=alternating,iterations=2"}) {
    const auto results = each_rank(2, [&](Communicator& communicator) {
      RankDriver driver(spec, net, communicator, "none");
      for (std::uint64_t step = 0; step < 3; ++step)
        driver.step(random_gradients(net, communicator.rank(), step));
      Gradients zeros;
      for (const auto& [name, shape] : net) zeros[name] = at::zeros(shape);
      const auto state = driver.compressor().state();
      return std::pair(state.at("conv").contains("error"),
                       driver.step(zeros).at("conv").abs().max().item<double>());
    });
    CAPTURE(spec);
    CHECK_FALSE(results[0].first);
    CHECK(results[0].second == 0);
  }
}

TEST_CASE("a policy changes ranks: error memory and leading columns stay, new columns are shared",
          "[ranks]") {
  struct Result {
    State before, after, plain;
    Gradients last;
  };
  for (const std::string spec : {"acpsgd:rank=3", "powersgd:rank=3,min_rate=0"}) {
    const auto results = each_rank(2, [&](Communicator& communicator) {
      RankDriver driver(spec, net, communicator);
      for (std::uint64_t step = 0; step < 3; ++step)
        driver.step(random_gradients(net, communicator.rank(), step));
      Result result;
      result.before = driver.compressor().state();
      driver.compressor().set_levels(std::vector<Level>{5, {}, 1, 2});
      result.after = driver.compressor().state();
      driver.step(random_gradients(net, communicator.rank(), 3));
      driver.compressor().set_levels(std::vector<Level>{{}, {}, 1, 2});
      const auto kept = find_state(driver.compressor().state(), "w", "error");
      auto gradients = random_gradients(net, communicator.rank(), 4);
      result.last = driver.step(gradients);
      result.plain = driver.compressor().state();
      result.last["w"] -= 0;
      result.last["expected"] = gradients.at("w") + kept;
      return result;
    });
    CAPTURE(spec);
    for (const auto& result : results) {
      for (const std::string kind : {"p", "q"}) {
        const auto& wider = result.after.at("w").at(kind);
        CHECK(wider.size(1) == 5);
        CHECK(at::equal(wider.narrow(1, 0, 3), result.before.at("w").at(kind)));
        CHECK(at::equal(wider, results[0].after.at("w").at(kind)));
        CHECK(at::equal(result.after.at("conv").at(kind), result.before.at("conv").at(kind).narrow(1, 0, 1)));
      }
      CHECK(at::equal(result.after.at("w").at("error"), result.before.at("w").at("error")));
      // Made plain, the parameter sends gradient and error whole.
      CHECK_FALSE(result.plain.at("w").contains("p"));
      CHECK(result.plain.at("w").at("error").abs().max().item<double>() == 0);
      CHECK(off(result.last.at("w"), (results[0].last.at("expected") + results[1].last.at("expected")) / 2) <
            1e-6);
      CHECK(at::equal(result.last.at("conv"), results[0].last.at("conv")));
    }
  }
}

TEST_CASE("levels and states that do not fit are refused by name", "[ranks]") {
  each_rank(1, [&](Communicator& communicator) {
    RankDriver driver("acpsgd:rank=2", net, communicator), dense("none", net, communicator);
    auto& compressor = driver.compressor();
    CHECK_THROWS_WITH(compressor.set_levels(std::vector<Level>{1.0}),
                      ContainsSubstring("1 ranks for 4 parameters"));
    CHECK_THROWS_WITH(compressor.set_levels(std::vector<Level>{0.5, {}, 1, 1}),
                      ContainsSubstring("parameter w"));
    CHECK_THROWS_AS(dense.compressor().set_levels(std::vector<Level>(4)), ConfigError);
    CHECK_THROWS_WITH(
        compressor.load_state({{"conv", {{"q", at::zeros({16, 2})}}}}),
        ContainsSubstring("state \"q\" of parameter \"conv\" has shape [16, 2], but [27, 2] is needed"));
    CHECK_THROWS_WITH(compressor.load_state({{"w", {{"error", at::zeros({20, 12})}}}}),
                      ContainsSubstring("\"error\" of parameter \"w\""));
    compressor.load_state({{"w", {{"p", at::ones({12, 3})}}}, {"elsewhere", {{"p", at::ones({1, 1})}}}});
    CHECK(at::equal(compressor.state().at("w").at("p"), at::ones({12, 2})));
    return 0;
  });
}
