// A policy from the API, by epochs and by steps, takes acp-train's plans: the trained models are the same bit
// for bit.
#include <spdlog/fmt/fmt.h>

#include "acp/broadcast.h"
#include "acp/distributed_optimizer.h"
#include "benchmarks/acp-train/job.h"
#include "benchmarks/acp-train/trainer.h"
#include "tests/api/toy.h"
#include "tests/catch.h"
#include "tests/support/process_context.h"

using namespace acp;
using namespace acp::programs;
using namespace acp::test;

namespace {

struct Outcome {
  std::string hash;           // of the parameters at the end
  std::uint64_t changes = 0;  // steps at which the plan changed
};

constexpr std::int64_t epochs = 4, steps = 32;  // 8 in an epoch

TrainOptions parse(const std::string& compressor, const std::string& policy, bool by_steps, int ranks) {
  // 8 batches of 2 rows, of 6 tokens each, for every rank.
  const auto tokens = std::to_string(ranks * 8 * 2 * 6 + 1);
  std::vector<const char*> argv{"acp-train",
                                "--model",
                                "lstm-lm:layers=2,embedding=20,hidden=24,dropout=0",
                                "--seq-len",
                                "6",
                                "--optimizer",
                                "sgd",
                                "--lr",
                                "0.5",
                                "--clip",
                                "0",
                                "--batch-size",
                                "2",
                                "--no-eval",
                                "--momentum",
                                "0",
                                "--lr-schedule",
                                "constant",
                                "--quiet"};
  const std::string data = "markov:vocab=50,eval=50,train=" + tokens,
                    length = std::to_string(by_steps ? steps : epochs);
  for (const auto* more : {"--data", data.c_str(), "--compressor", compressor.c_str(), "--policy",
                           policy.c_str(), by_steps ? "--iterations" : "--epochs", length.c_str()})
    argv.push_back(more);
  std::string help;
  return parse_train_options(static_cast<int>(argv.size()), argv.data(), help);
}

Outcome by_program(const Context& context, const TrainOptions& options) {
  Console console(true, false);
  auto result = Trainer(context, options, console).run();
  return {result.parameters_hash, result.plan_changes};
}

// What a user writes: the model, the batches, the optimizer with a policy.
Outcome by_api(const Context& context, const TrainOptions& options, const std::string& compressor,
               const std::string& policy, bool by_steps) {
  torch::manual_seed(42);
  const auto job = load_job(context, options);
  broadcast_parameters(*job.model);
  const models::TrainingLoader loader(
      job.data.train,
      {.rank = context.rank(), .size = context.size(), .batch_size = 2, .order = job.data.order});
  auto setting = Options().compressor(compressor).policy(policy);
  if (by_steps) {
    setting.steps(steps);
  } else {
    setting.epochs(epochs);
  }
  DistributedOptimizer optimizer(torch::optim::SGD(job.model->parameters(), torch::optim::SGDOptions(0.5)),
                                 job.model->named_parameters(), setting);
  std::int64_t done = 0;
  for (std::int64_t epoch = 0; epoch < epochs; ++epoch) {
    if (!by_steps) optimizer.start_epoch(static_cast<std::uint64_t>(epoch));
    job.model->reset_state();
    for (const auto& batch : loader.epoch(epoch)) {
      optimizer.zero_grad();
      job.model->loss(batch).backward();
      optimizer.step();
      ++done;
    }
  }
  CHECK(done == steps);
  return {fmt::format("{:016x}", check_parameters_agree(*job.model)),
          optimizer.reducer().statistics().plan_changes};
}

}  // namespace

TEST_CASE("a policy from the API takes acp-train's plans, by epochs and by steps", "[api-mpi][policy]") {
  struct Case {
    std::string compressor, policy;
    bool by_steps;
    bool changes;  // during the run
  };
  const std::vector<Case> cases{
      {"topk", "layer-size:group_splits=1000,group_compressions=50/10", false, false},
      {"topk", "epoch:clock=epoch,group_compressions=50/10", false, true},
      {"topk", "epoch:clock=step,group_compressions=50/10/5", true, true},
      {"acpsgd:rank=2", "size-epoch:clock=step,group_splits=1000,group_compressions=90/60;10/5", true, true},
      {"powersgd:rank=4,min_rate=0", "lgreco:start=4,interval=8,window=2", true, true},
      {"acpsgd:rank=4,min_rate=0", "lgreco:start=4,interval=8,window=2", false, true},
      // Never at its ladder's end: what ends the search is measured time.
      {"topk", "gravac:ladder=2/4/8/16/32/64/128,epsilon=0.01,omega=0,window=2,interval=6", true, true},
      {"powersgd:rank=2,min_rate=0", "accordion:high=2,low=1,threshold=0.5,period=1e", false, true},
      {"topk", "accordion:high=0.5,low=0.1,threshold=0.9,period=4", true, true},
      {"powersgd:rank=4,min_rate=0",
       "lgreco:start=4,interval=8,window=2+accordion:high=6,low=2,threshold=0.01", true, true},
  };
  Context& context = process_context();
  try {
    for (const auto& [compressor, policy, by_steps, changes] : cases) {
      CAPTURE(compressor, policy);
      const auto options = parse(compressor, policy, by_steps, context.size());
      const auto program = by_program(context, options);
      const auto api = by_api(context, options, compressor, policy, by_steps);
      CHECK(api.hash == program.hash);
      CHECK(api.changes == program.changes);
      CHECK((api.changes > 0) == changes);
    }
  } catch (...) {
    context.abort(std::current_exception());  // else the others would wait for their deadline
    throw;
  }
}
