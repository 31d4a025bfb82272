// What acp-train puts into a checkpoint and takes back, and what it says when it cannot.
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "benchmarks/acp-train/checkpoints.h"
#include "benchmarks/common/program.h"
#include "tests/api/toy.h"
#include "tests/catch.h"
#include "tests/support/temp_folder.h"

using namespace acp;
using namespace acp::programs;
using namespace acp::test;

namespace {

namespace fs = std::filesystem;

// A run of acp-train, as far as checkpoints go.
struct Run {
  explicit Run(std::uint64_t seed, std::string job = "mlp with sgd")
      : model(make_mlp(seed)),
        optimizer(model->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9)),
        reducer(named_tensors(model->named_parameters())),
        schedule("plateau:patience=1", {}),
        state{*model, optimizer, reducer, schedule, position, seed, std::move(job)} {}
  void step() {
    optimizer.zero_grad();
    model->forward(numbers(3, {4, 6})).pow(2).mean().backward();
    reducer.synchronize();
    optimizer.step();
  }
  Mlp model;
  torch::optim::SGD optimizer;
  GradientReducer reducer;
  LrSchedule schedule;
  Position position;
  TrainState state;
};

void save_one(const fs::path& folder, int ranks) {
  run_local(ranks, [&](Context& context) {
    Run run(1);
    run.step();
    run.position = {1, 0, 2, 4, 0.1 + context.rank(), 1, 0};
    save_checkpoint(folder.string(), run.state);
  });
}

struct Refusal {
  int code = 0;
  std::string message;
};

// What loading it ends with on each of two ranks; the model must be as before.
std::vector<Refusal> refusals(const fs::path& folder, const std::string& job = "mlp with sgd",
                              bool untouched = true) {
  std::vector<Refusal> all(2);
  run_local(2, [&](Context& context) {
    Run run(2, job);
    const auto before = flatten(run.model->parameters()).clone();
    try {
      load_checkpoint(folder.string(), run.state);
    } catch (const AgreedError& e) {
      all[static_cast<std::size_t>(context.rank())] = {e.code(), e.what()};
    }
    require(!untouched || torch::equal(before, flatten(run.model->parameters())), "the model was changed");
    require(run.position.step == 0, "the place was changed");
  });
  return all;
}

// Replaces a text in the manifest.
void edit(const fs::path& folder, const std::string& from, const std::string& to) {
  const auto path = folder / "000001-step-1" / "manifest.json";
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  auto edited = text.str();
  const auto at = edited.find(from);
  REQUIRE(at != std::string::npos);
  edited.replace(at, from.size(), to);
  std::ofstream(path) << edited;
}

}  // namespace

TEST_CASE("place, losses and schedule come back bit by bit, infinite ones too", "[api][train-checkpoint]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double train_loss : {1.0 / 3, nan, std::numeric_limits<double>::infinity()}) {
    const TempFolder folder;
    torch::Tensor parameters;
    run_local(2, [&](Context& context) {
      Run run(1);
      run.step();
      run.position = {1, 2, 12, 4, 0.1 + context.rank(), 3, train_loss};
      require(std::isinf(run.schedule.state().at(1)), "no evaluation yet: the best loss is infinite");
      save_checkpoint(folder.path().string(), run.state);
      run.schedule.evaluated(0.7);
      run.step();
      run.position.step = 2;
      save_checkpoint(folder.path().string(), run.state);
      if (context.rank() == 0) parameters = flatten(run.model->parameters());
    });
    run_local(3, [&](Context& context) {
      Run run(2);
      load_checkpoint(folder.path().string(), run.state);
      const auto& p = run.position;
      require(p.step == 2 && p.epoch == 2 && p.batch == 12 && p.loss_steps == 3, "place");
      // The third rank is new: rank 0's losses stand for its own.
      require(p.loss_sum == (context.rank() == 1 ? 1.1 : 0.1), "losses of this rank");
      require(p.train_loss == train_loss || (std::isnan(p.train_loss) && std::isnan(train_loss)), "loss");
      require(run.schedule.state() == std::vector<double>{1, 0.7, 0}, "schedule");
      require(torch::equal(flatten(run.model->parameters()), parameters), "parameters");
    });
    fs::remove_all(folder.path() / "000002-step-2");
    run_local(2, [&](Context&) {
      Run run(2);
      run.schedule.evaluated(5);
      load_checkpoint(folder.path().string(), run.state);
      require(run.position.step == 1 && std::isinf(run.schedule.state().at(1)), "the one before");
    });
  }
}

TEST_CASE("no checkpoint, or another job's, is a wrong argument", "[api][train-checkpoint]") {
  const TempFolder folder;
  for (const auto& refusal : refusals(folder.path())) {
    CHECK(refusal.code == 2);
    CHECK_THAT(refusal.message, ContainsSubstring("no checkpoint in"));
  }
  save_one(folder.path(), 2);
  for (const auto& refusal : refusals(folder.path(), "mlp with adam")) {
    CHECK(refusal.code == 2);
    CHECK_THAT(refusal.message, ContainsSubstring("is of mlp with sgd, this run is mlp with adam"));
  }
}

TEST_CASE("a damaged manifest is corrupt data, whatever is missing in it", "[api][train-checkpoint]") {
  const std::vector<std::pair<std::string, std::string>> damages = {
      {"\"job\"", "\"jib\""},
      {"\"batch\"", "\"botch\""},
      {"\"loss_steps\"", "\"x\""},
      {"\"loss_sum\"", "\"x\""},
      {"\"train_loss\"", "\"x\""},
      {"\"schedule\"", "\"x\""},
      {"\"mlp with sgd\"", "7"},
      {"\"batch\": 2", "\"batch\": -2"},
      {"\"batch\": 2", "\"batch\": \"two\""},
      {"\"inf\"", "\"infinite\""},
      {"\"world_size\": 2", "\"world_size\": 0"},
      {"\"meta\"", "\"mete\""}};
  for (const auto& [from, to] : damages) {
    const TempFolder folder;
    save_one(folder.path(), 2);
    edit(folder.path(), from, to);
    INFO(from << " -> " << to);
    for (const auto& refusal : refusals(folder.path())) {
      CHECK(refusal.code == 3);
      CHECK_THAT(refusal.message, ContainsSubstring("manifest.json is damaged"));
      CHECK(refusal.message.find('\n') == std::string::npos);
    }
  }
}

TEST_CASE("a rank's part that is cut off is corrupt data on every rank", "[api][train-checkpoint]") {
  const TempFolder folder;
  save_one(folder.path(), 2);
  const auto part = folder.path() / "000001-step-1" / "rank-1.pt";
  fs::resize_file(part, fs::file_size(part) - 1);
  for (const auto& refusal : refusals(folder.path(), "mlp with sgd", false)) {
    CHECK(refusal.code == 3);
    CHECK_THAT(refusal.message, ContainsSubstring("rank-1.pt is damaged"));
  }
}

TEST_CASE("a folder that cannot be written is one error on every rank", "[api][train-checkpoint]") {
  std::array<int, 2> codes{};
  run_local(2, [&](Context& context) {
    Run run(1);
    try {
      save_checkpoint("/proc/nowhere", run.state);
    } catch (const AgreedError& e) {
      codes[static_cast<std::size_t>(context.rank())] = e.code();
    }
  });
  CHECK(codes == std::array<int, 2>{3, 3});
}
