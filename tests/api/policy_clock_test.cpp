// What a policy knows of time: the epoch of a run that goes on with other ranks, steps that are no measure;
// and what the compressor's own setting is after a warm-up.
#include <cmath>
#include <vector>

#include "acp/checkpoint.h"
#include "acp/distributed_optimizer.h"
#include "adaptive/policy.h"
#include "comm/error.h"
#include "tests/api/toy.h"
#include "tests/catch.h"
#include "tests/support/temp_folder.h"

using namespace acp;
using namespace acp::test;

namespace {

struct Run {
  Run(const std::string& compressor, const Options& options)
      : model(make_mlp(5, {12, 20, 16, 4})),
        optimizer(torch::optim::SGD(model->parameters(), torch::optim::SGDOptions(0.01)),
                  model->named_parameters(), Options(options).compressor(compressor)) {
    state.model = model.get();
    state.optimizer = &optimizer;
    state.reducer = &optimizer.reducer();
  }
  void step() {
    optimizer.zero_grad();
    model->forward(numbers(7 + state.step, {6, 12})).pow(2).mean().backward();
    optimizer.step();
    ++state.step;
  }
  std::uint64_t payload() const { return optimizer.reducer().statistics().payload_bytes; }
  Mlp model;
  DistributedOptimizer<torch::optim::SGD> optimizer;
  TrainingState state;
};

// Which steps had a time, of this rank.
thread_local std::vector<bool> timed;

class Clocked final : public Policy {
 public:
  Request request(const Moment&) const override {
    Request request;
    request.every_step = true;
    return request;
  }
  LevelPlan plan(const Observations& seen) override {
    if (seen.measured) timed.push_back(!std::isnan(seen.measured->seconds));
    LevelPlan plan;
    plan.probes = {0.5};
    return plan;
  }
};

const bool registered_clocked = register_policy({
    .name = "clocked",
    .summary = "for a test: notes which steps were timed",
    .source = "-",
    .make = [](const Values&, const PolicySetting&) -> std::unique_ptr<Policy> {
      return std::make_unique<Clocked>();
    },
});

}  // namespace

TEST_CASE("a step with an evaluation before it, or one that was left out, is not timed", "[api][policy]") {
  run_local(2, [&](Context& context) {
    timed.clear();
    Run run("topk:ratio=0.5", Options().policy("clocked").nonfinite("skip"));
    for (int i = 0; i < 7; ++i) {
      if (i == 3) run.optimizer.reducer().pause();
      if (i == 5) {  // NaN on one rank: all leave the step out
        run.optimizer.zero_grad();
        const double bad = context.rank() == 1 ? std::nan("") : 1;
        (run.model->forward(numbers(1, {6, 12})).pow(2).mean() * bad).backward();
        run.optimizer.step();
        require(run.optimizer.reducer().skipped(), "left out");
      }
      run.step();
    }
    require(timed == std::vector<bool>{false, true, true, false, true, false, true},
            "the first, the paused and the next");
  });
}

TEST_CASE("a run that goes on with epochs of another length keeps its place in them", "[api][policy]") {
  const TempFolder folder;
  const auto options = [](std::int64_t steps_per_epoch) {
    return Options().policy("epoch:group_compressions=50/20/10/5").epochs(8).steps_per_epoch(steps_per_epoch);
  };
  run_local(2, [&](Context&) {
    Run run("topk", options(10));
    while (run.state.step < 25) run.step();  // the middle of epoch 2, in the second of four phases
    Checkpoints(folder.path()).save(run.state);
  });
  run_local(3, [&](Context&) {
    Run run("topk", options(5));
    require(Checkpoints(folder.path()).load(run.state), "there is a checkpoint");
    const auto ratio = [&] { return run.optimizer.reducer().levels().at(0).second.value(); };
    for (int i = 0; i < 7; ++i) {  // 3 are left of epoch 2, 5 are epoch 3's
      run.step();
      require(ratio() == 0.2, "the second phase, step " + std::to_string(i));
    }
    run.step();
    require(ratio() == 0.1, "epoch 4 is in the third");
  });
}

TEST_CASE("after a warm-up the compressor's own setting holds, whichever key it is in", "[api][policy]") {
  for (const std::string spec : {"randomblock:rank=1", "qsgd:levels=5", "qsgd:levels=1000",
                                 "randomk:ratio=0.3", "powersgd:rank=2,min_rate=0"}) {
    run_local(2, [&](Context&) {
      Run plain(spec, Options());
      Run warmed(spec, Options().policy("uniform:warmup=2"));
      for (int i = 0; i < 2; ++i) {
        plain.step();
        warmed.step();
      }
      const auto own = plain.payload(), dense = warmed.payload();
      for (int i = 0; i < 2; ++i) {
        plain.step();
        warmed.step();
      }
      require(dense > own, spec + ": dense first");
      require(warmed.payload() - dense == plain.payload() - own, spec + ": as without the warm-up");
    });
  }
  // How many elements are sent is the compressor's business there, and no policy's.
  for (const std::string spec : {"randomblock:rank=1", "qsgd:levels=5", "topk:count=cat"}) {
    CHECK_THROWS_WITH(Options().compressor(spec).policy("accordion:period=5").check(),
                      ContainsSubstring("has no such setting"));
    CHECK_NOTHROW(Options().compressor(spec).policy("uniform:warmup=2").check());
  }
  for (const std::string spec : {"randomblock:rank=00", "qsgd:levels=0", "topk:count=ratio"})
    CHECK_NOTHROW(Options().compressor(spec).policy("accordion:period=5").check());
}
