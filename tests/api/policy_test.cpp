// Policies in training: every rank takes the same plan in the same step, whatever its own gradients are;
// epochs and steps of the API; restarts.
#include "adaptive/policy.h"

#include <cmath>
#include <map>
#include <set>

#include "acp/broadcast.h"
#include "acp/checkpoint.h"
#include "acp/distributed_optimizer.h"
#include "comm/error.h"
#include "tests/api/toy.h"
#include "tests/catch.h"
#include "tests/support/temp_folder.h"

using namespace acp;
using namespace acp::test;

namespace {

using Levels = std::vector<double>;  // 0: dense, -1: the compressor's own
using Plans = std::map<std::uint64_t, Levels>;

Levels levels_of(const GradientReducer& reducer) {
  Levels result;
  for (const auto& [name, level] : reducer.levels()) {
    result.push_back(level && std::isnan(*level) ? -1 : level.value_or(0));
  }
  return result;
}

// A run whose gradients differ in scale, direction and time course from rank to rank.
struct Run {
  Run(const std::string& compressor, const Options& options, std::uint64_t seed = 5)
      : model(make_mlp(seed, {12, 20, 16, 4})),
        optimizer(torch::optim::SGD(model->parameters(), torch::optim::SGDOptions(0.01)),
                  model->named_parameters(), Options(options).compressor(compressor)) {
    state.model = model.get();
    state.optimizer = &optimizer;
    state.reducer = &optimizer.reducer();
  }
  void one_step(int rank, std::uint64_t step) {
    optimizer.zero_grad();
    const double scale = rank == 0 ? 1 : 10.0 * rank * (1 + std::sin(static_cast<double>(step)));
    const auto x = numbers(100 * step + static_cast<std::uint64_t>(rank), {6, 12}) + 2.0 * rank;
    ((model->forward(x) - rank).pow(2).mean() * scale * 0.05).backward();
    optimizer.step();
  }
  // Until `until` steps are done; what was in force in each.
  Plans steps(int rank, std::uint64_t until) {
    Plans plans;
    for (; state.step < until; ++state.step) {
      if (begin_step) begin_step(state.step);
      const auto before = levels_of(optimizer.reducer());
      one_step(rank, state.step);
      plans[state.step] = state.step == 0 ? levels_of(optimizer.reducer()) : before;
    }
    return plans;
  }
  Mlp model;
  DistributedOptimizer<torch::optim::SGD> optimizer;
  TrainingState state;
  std::function<void(std::uint64_t)> begin_step;
};

Options steps_of(const std::string& policy, std::int64_t steps = 40) {
  return Options().policy(policy).steps(steps).steps_per_epoch(5).fusion_mb(0.0005);
}

// Policies that break the rule: of the steps after the third, they see on which rank they run.
thread_local int rank_of_thread = 0;

class Unlike final : public Policy {
 public:
  Unlike(bool throws, std::size_t layers) : throws_(throws), layers_(layers) {}
  LevelPlan plan(const Observations& seen) override {
    const bool other = seen.moment.step >= 3 && rank_of_thread == 1;
    if (other && throws_) throw DataError("this rank alone");
    LevelPlan plan;
    plan.levels.assign(layers_, Level(other ? 0.5 : 0.25));
    return plan;
  }

 private:
  bool throws_;
  std::size_t layers_;
};

const bool registered_unlike = register_policy({
    .name = "unlike",
    .summary = "for a test: another plan on rank 1, or none",
    .source = "-",
    .keys = {{"throws", "off", "throw instead"}},
    .make = [](const Values& values, const PolicySetting& setting) -> std::unique_ptr<Policy> {
      return std::make_unique<Unlike>(values.boolean("throws"), setting.layers.size());
    },
});

// The plans of rank 0, once all ranks' have been found equal in every step.
Plans plans_of(int ranks, const std::string& compressor, const Options& options, std::uint64_t steps) {
  Plans result;
  run_local(ranks, [&](Context& context) {
    Run run(compressor, options);
    const auto plans = run.steps(context.rank(), steps);
    for (const auto& [step, levels] : plans) {
      const auto all = all_gather_object(levels);
      for (const auto& other : all) require(other == all[0], "equal plans in step " + std::to_string(step));
    }
    check_parameters_agree(*run.model);
    std::uint64_t changes = 0;
    for (const auto& [step, levels] : plans) changes += step > 0 && levels != plans.at(step - 1);
    changes +=
        levels_of(run.optimizer.reducer()) != plans.at(steps - 1);  // before the step that is not taken
    const auto counted = run.optimizer.reducer().statistics().plan_changes;
    require(counted == changes,
            "changes are counted: " + std::to_string(counted) + " of " + std::to_string(changes));
    if (context.rank() == 0) result = plans;
  });
  return result;
}

}  // namespace

TEST_CASE("ranks with very different gradients take the same plan in every step", "[api][policy]") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"topk:ratio=0.2", "layer-size:group_splits=100,group_compressions=50/5"},
      {"randomk:ratio=0.2", "epoch:group_compressions=50/20/5,clock=step"},
      {"dgc:ratio=0.2", "size-epoch:group_splits=100,group_compressions=50/20;20/5,clock=step"},
      {"qsgd:bits=4", "size-epoch:group_splits=100,group_compressions=20/10;10/5,clock=step"},
      {"powersgd:rank=3,min_rate=0", "lgreco:start=4,interval=8,window=4"},
      {"acpsgd:rank=3", "lgreco:start=3,interval=7,window=4,delay=0"},
      {"acpsgd:rank=3", "lgreco:start=3,interval=7,window=4,objective=time"},
      {"topk:ratio=0.05", "lgreco:start=4,interval=8,window=4"},
      {"qsgd:bits=4", "lgreco:start=4,interval=8,window=4"},
      {"powersgd:rank=4,min_rate=0", "accordion:high=4,low=1,period=6"},
      {"topk:ratio=0.05", "accordion:high=0.5,low=0.05,period=2e"},
      {"powersgd:rank=4,min_rate=0", "lgreco:start=4,interval=8,window=4+accordion:high=6,low=2"},
      {"topk:ratio=0.05",
       "layer-size:group_splits=100,group_compressions=50/5+accordion:high=0.5,low=0.01,period=6"},
      {"topk:ratio=0.05", "gravac:theta_min=2,theta_max=16,window=4,interval=6,epsilon=0.6"},
      {"randomk:ratio=0.05", "gravac:theta_min=2,theta_max=16,window=4,interval=6,epsilon=0.3"},
      {"redsync:ratio=0.05", "gravac:theta_min=2,theta_max=16,window=4,interval=6,epsilon=0.3,norm=squared"},
      {"topk:ratio=0.05", "accordion:form=gravac,window=3,threshold=0.2,high=0.5,low=0.05"},
      {"signsgd", "uniform:warmup=3"}};
  for (const auto& [compressor, policy] : cases) {
    INFO(compressor << " with " << policy);
    const auto plans = plans_of(3, compressor, steps_of(policy), 40);
    std::set<Levels> different;
    for (const auto& [step, levels] : plans) {
      if (compressor != "signsgd") different.insert(levels);
    }
    if (policy.starts_with("layer-size:") && policy.find('+') == std::string::npos) {
      CHECK(different.size() == 1);
    } else if (compressor != "signsgd") {
      CHECK(different.size() >= 2);
    }
  }
}

TEST_CASE("ACP-SGD's ranks change before steps that send P", "[api][policy]") {
  const auto plans = plans_of(2, "acpsgd:rank=3", steps_of("lgreco:start=3,interval=7,window=4,delay=0"), 40);
  std::size_t changes = 0;
  for (const auto& [step, levels] : plans) {
    if (step == 0 || levels == plans.at(step - 1)) continue;
    CHECK(step % 2 == 0);
    ++changes;
  }
  CHECK(changes > 0);
}

TEST_CASE("epochs by the library's count and by start_epoch() give one plan", "[api][policy]") {
  for (const std::string policy : {"size-epoch:group_splits=100,group_compressions=50/20;20/10;10/5",
                                   "accordion:high=0.5,low=0.05,period=2e"}) {
    INFO(policy);
    const auto counted = plans_of(2, "topk", Options().policy(policy).epochs(6).steps_per_epoch(5), 30);
    Plans called;
    run_local(2, [&](Context& context) {
      Run run("topk", Options().policy(policy).epochs(6));
      run.begin_step = [&](std::uint64_t step) {
        if (step % 5 == 0) run.optimizer.start_epoch(step / 5);
      };
      auto plans = run.steps(context.rank(), 30);
      if (context.rank() == 0) called = plans;
    });
    CHECK(called == counted);
    CHECK(counted.at(0) != counted.at(29));
  }
  // By steps, phases are parts of the steps.
  const auto by_step =
      plans_of(2, "topk", Options().policy("epoch:group_compressions=50/20/10").steps(30), 30);
  CHECK(by_step.at(9)[0] == 0.5);
  CHECK(by_step.at(10)[0] == 0.2);
  CHECK(by_step.at(29)[0] == 0.1);
}

TEST_CASE("a run that goes on from a checkpoint is bit for bit the one that never stopped", "[api][policy]") {
  for (const auto& [compressor, policy] : std::vector<std::pair<std::string, std::string>>{
           {"powersgd:rank=3,min_rate=0", "lgreco:start=2,interval=8,window=5,delay=2"},
           {"acpsgd:rank=3", "lgreco:start=3,interval=7,window=5,delay=1+accordion"},
           {"topk:ratio=0.1", "accordion:high=0.5,low=0.05,period=4"},
           {"topk:ratio=0.1", "epoch:group_compressions=50/5"}}) {
    for (const std::uint64_t stop : {9U, 16U, 17U, 18U}) {
      INFO(compressor << " with " << policy << ", stopped after " << stop);
      const TempFolder folder;
      std::vector<torch::Tensor> whole(2), resumed(2);
      run_local(2, [&](Context& context) {
        Run run(compressor, steps_of(policy));
        run.steps(context.rank(), stop);
        Checkpoints(folder.path()).save(run.state);
        run.steps(context.rank(), 30);
        whole[static_cast<std::size_t>(context.rank())] = flatten(run.model->parameters());
      });
      run_local(2, [&](Context& context) {
        Run run(compressor, steps_of(policy), 99);
        require(Checkpoints(folder.path()).load(run.state), "there is a checkpoint");
        run.steps(context.rank(), 30);
        resumed[static_cast<std::size_t>(context.rank())] = flatten(run.model->parameters());
      });
      for (std::size_t r : {0U, 1U}) CHECK(torch::equal(whole[r], resumed[r]));
    }
  }
}

TEST_CASE("a checkpoint serves another number of ranks, and another policy", "[api][policy]") {
  const TempFolder folder;
  run_local(2, [&](Context& context) {
    Run run("powersgd:rank=3,min_rate=0", steps_of("lgreco:start=2,interval=8,window=5"));
    run.steps(context.rank(), 15);
    Checkpoints(folder.path()).save(run.state);
  });
  for (const std::string policy : {"lgreco:start=2,interval=8,window=5", "accordion:period=5", "uniform"}) {
    run_local(3, [&](Context& context) {
      Run run("powersgd:rank=3,min_rate=0", steps_of(policy), 7);
      require(Checkpoints(folder.path()).load(run.state), "there is a checkpoint");
      run.steps(context.rank(), 30);
      check_parameters_agree(*run.model);
    });
  }
}

TEST_CASE("the learning rate's fall reaches Accordion through the optimizer", "[api][policy]") {
  run_local(2, [&](Context& context) {
    Run run("topk", steps_of("accordion:high=0.5,low=0.05,period=4,threshold=1000"));
    const auto before = run.steps(context.rank(), 10);
    require(before.at(9) == Levels(6, 0.05), "calm");
    for (auto& group : run.optimizer.param_groups()) group.options().set_lr(0.001);
    const auto after = run.steps(context.rank(), 13);
    require(after.at(11) == Levels(6, 0.5), "high after the fall");
    require(after.at(12) == Levels(6, 0.05), "until the next decision");
  });
}

TEST_CASE("what a policy lacks is said when the optimizer is made, or at the first step", "[api][policy]") {
  run_local(2, [&](Context& context) {
    const auto made = [&](const Options& options) {
      return message_of<ConfigError>([&] { Run run("topk", options); });
    };
    require(made(Options().policy("epoch")).find("Options::epochs(n)") != std::string::npos, "length");
    require(made(Options().policy("accordion")).find("steps_per_epoch") != std::string::npos, "epochs");
    require(made(Options().policy("lgreco:interval=3")).find("interval=3") != std::string::npos, "values");
    require(made(Options().policy("layer-size").granularity("bucket")).find("granularity \"layer\"") !=
                std::string::npos,
            "granularity");
    const auto differ = made(Options().policy(context.rank() == 0 ? "gravac" : "gravac:epsilon=0.5"));
    require(differ.find("policy=gravac") != std::string::npos, "ranks that differ: " + differ);
    const auto late = message_of<ConfigError>([&] {
      Run run("topk", Options().policy("epoch:group_compressions=50/5").epochs(4));
      run.steps(context.rank(), 1);
    });
    require(late.find("start_epoch(e)") != std::string::npos, "no epoch was started: " + late);
  });
}

TEST_CASE("LEGACY's communicated elements are counted", "[api][policy]") {
  run_local(2, [&](Context& context) {
    Run run("topk", steps_of("layer-size:group_splits=100,group_compressions=50/10"));
    run.steps(context.rank(), 4);
    std::uint64_t expected = 0;
    for (const auto& p : run.model->parameters()) {
      expected += static_cast<std::uint64_t>(p.numel() * (p.numel() < 100 ? 0.5 : 0.1));
    }
    require(run.optimizer.reducer().statistics().sent_elements == 4 * expected, "k of each layer");
  });
}

TEST_CASE("a policy that differs between ranks is an error on all of them, not a hang", "[api][policy]") {
  for (const bool throws : {false, true}) {
    run_local(3, [&](Context& context) {
      rank_of_thread = context.rank();
      Run run("topk", Options().policy(throws ? "unlike:throws=on" : "unlike"));
      run.steps(context.rank(), 2);
      if (throws) {
        const auto message = message_of<DataError>([&] { run.steps(context.rank(), 5); });
        require(message.find("this rank alone") != std::string::npos, "what rank 1 threw: " + message);
        require((message.find("rank 1: ") != std::string::npos) == (context.rank() != 1), message);
      } else {
        const auto message = message_of<Error>([&] { run.steps(context.rank(), 5); });
        require(message.find("policy unlike has come to another plan on rank 1") != std::string::npos,
                "all ranks say so: " + message);
      }
      require(run.state.step == 2, "the third step has not ended");
    });
  }
}

TEST_CASE("a plan that equals the compressor's own setting is sent at that, probes or not", "[api][policy]") {
  run_local(2, [&](Context& context) {
    for (const std::string policy :
         {"accordion:form=gravac,low=0.1,high=0.5",
          "layer-size:group_splits=1,group_compressions=10/10+accordion:form=gravac,"
          "low=0.01,high=0.5"}) {
      Run run("topk:ratio=0.1", steps_of(policy));
      run.steps(context.rank(), 4);
      std::uint64_t expected = 0;
      for (const auto& p : run.model->parameters())
        expected += std::max<std::uint64_t>(static_cast<std::uint64_t>(p.numel()) / 10, 1);
      require(run.optimizer.reducer().statistics().sent_elements == 4 * expected,
              "k of each layer, " + policy);
    }
  });
}

TEST_CASE("loading begins from the state alone, also in the middle of a run", "[api][policy]") {
  for (const std::string policy :
       {"lgreco:start=2,interval=8,window=5,delay=2+accordion", "accordion:high=6,low=2,period=4"}) {
    const TempFolder folder;
    run_local(2, [&](Context& context) {
      Run run("powersgd:rank=3,min_rate=0", steps_of(policy));
      const Checkpoints checkpoints(folder.path());
      run.steps(context.rank(), 9);
      checkpoints.save(run.state);
      const auto first = run.steps(context.rank(), 17);
      run.steps(context.rank(), 27);  // errors of candidates are being computed
      require(Checkpoints(folder.path()).load(run.state), "there is a checkpoint");
      require(run.state.step == 9, "of step 9");
      require(run.steps(context.rank(), 17) == first, "the same plans again");
      // What another policy has saved says nothing to this one.
      run.optimizer.reducer().load_state({});
      const auto fresh = levels_of(run.optimizer.reducer());
      Run other("powersgd:rank=3,min_rate=0", steps_of(policy));
      other.steps(context.rank(), 1);
      require(fresh == levels_of(other.optimizer.reducer()), "the first plan");
    });
  }
}
