// Checkpoints: a resumed run is the run that was never stopped, and no kill or damage goes unnoticed.
#include "acp/checkpoint.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "acp/broadcast.h"
#include "acp/collectives.h"
#include "acp/distributed_optimizer.h"
#include "comm/error.h"
#include "tests/api/toy.h"
#include "tests/catch.h"
#include "tests/support/temp_folder.h"

using namespace acp;
using namespace acp::test;

namespace {

namespace fs = std::filesystem;

// A run that a checkpoint holds.
struct Run {
  explicit Run(std::uint64_t seed = 5, const std::string& compressor = "acpsgd:rank=2,min_rate=1")
      : model(make_mlp(seed)),
        optimizer(torch::optim::Adam(model->parameters(), 0.05), model->named_parameters(),
                  Options().compressor(compressor).fusion_mb(0.0001)) {
    state.model = model.get();
    state.optimizer = &optimizer;
    state.reducer = &optimizer.reducer();
  }
  void steps(int rank, std::uint64_t until) {
    for (; state.step < until; ++state.step) {
      optimizer.zero_grad();
      model->forward(numbers(100 * state.step + static_cast<std::uint64_t>(rank), {4, 6}))
          .pow(2)
          .mean()
          .backward();
      optimizer.step();
    }
  }
  Mlp model;
  DistributedOptimizer<torch::optim::Adam> optimizer;
  TrainingState state;
};

std::vector<std::string> folders(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

void truncate(const fs::path& file) {
  fs::resize_file(file, fs::file_size(file) - 1);
}

void flip_byte(const fs::path& file) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(fs::file_size(file) / 2));
  const auto byte = static_cast<char>(stream.get() ^ 1);
  stream.seekp(static_cast<std::streamoff>(fs::file_size(file) / 2));
  stream.put(byte);
}

// What load() throws on each of two ranks.
template <class Failure = DataError>
std::vector<std::string> load_failures(const fs::path& directory, int ranks = 2) {
  std::vector<std::string> messages(static_cast<std::size_t>(ranks));
  run_local(ranks, [&](Context& context) {
    Run run(9);
    messages[static_cast<std::size_t>(context.rank())] =
        message_of<Failure>([&] { Checkpoints(directory).load(run.state); });
    barrier();
  });
  return messages;
}

void save_at(const fs::path& directory, int ranks, std::vector<std::uint64_t> steps, int keep = 3) {
  run_local(ranks, [&](Context& context) {
    Run run;
    for (const auto step : steps) {
      run.steps(context.rank(), step);
      Checkpoints(directory, keep).save(run.state);
    }
  });
}

}  // namespace

TEST_CASE("a resumed run ends where the one that was not stopped ends, bit by bit", "[api][checkpoint]") {
  for (const std::string compressor :
       {"none", "powersgd:rank=2,start=0,min_rate=1", "acpsgd:rank=2,min_rate=1"}) {
    for (const int ranks : {1, 2, 3}) {
      const TempFolder folder;
      torch::Tensor expected, resumed;
      run_local(ranks, [&](Context& context) {
        Run run(5, compressor);
        run.state.epoch = 2;
        run.state.seed = 77;
        run.state.meta = R"({"lr":0.1,"list":[1,null]})";
        run.state.local = "rank " + std::to_string(context.rank());
        run.steps(context.rank(), 5);
        Checkpoints(folder.path()).save(run.state);
        run.steps(context.rank(), 9);
        check_parameters_agree(*run.model);
        if (context.rank() == 0) expected = flatten(run.model->parameters());
      });
      run_local(ranks, [&](Context& context) {
        Run run(6 + static_cast<std::uint64_t>(context.rank()), compressor);  // another start on every rank
        require(Checkpoints(folder.path()).load(run.state), "there is a checkpoint");
        require(run.state.step == 5 && run.state.epoch == 2 && run.state.seed == 77, "place in the run");
        require(nlohmann::json::parse(run.state.meta).at("list").dump() == "[1,null]", "meta");
        require(run.state.local == "rank " + std::to_string(context.rank()), "each rank's own bytes");
        run.steps(context.rank(), 9);
        check_parameters_agree(*run.model);
        if (context.rank() == 0) resumed = flatten(run.model->parameters());
      });
      INFO(compressor << " on " << ranks << " ranks");
      CHECK(torch::equal(expected, resumed));
    }
  }
}

TEST_CASE("torch's random numbers go on where they were", "[api][checkpoint]") {
  const TempFolder folder;
  torch::Tensor next;
  run_local(1, [&](Context&) {
    torch::manual_seed(3);
    torch::randn({10});
    Checkpoints(folder.path()).save({});
    next = torch::randn({4});
  });
  run_local(1, [&](Context&) {
    torch::manual_seed(4);
    TrainingState state;
    Checkpoints(folder.path()).load(state);
  });
  CHECK(torch::equal(torch::randn({4}), next));
}

TEST_CASE("the newest few are kept, and nothing is there at first", "[api][checkpoint]") {
  const TempFolder folder;
  const auto directory = folder.path() / "run" / "checkpoints";
  run_local(2, [&](Context&) {
    TrainingState state;
    require(!Checkpoints(directory).load(state), "no checkpoint yet");
    require(state.step == 0, "nothing loaded");
  });
  save_at(directory, 2, {1, 2, 3, 4, 4}, 2);
  CHECK(folders(directory) == std::vector<std::string>{"000004-step-4", "000005-step-4"});
  CHECK(folders(directory / "000005-step-4") ==
        std::vector<std::string>{"manifest.json", "model.pt", "optimizer.pt", "rank-0.pt", "rank-1.pt"});
  CHECK_THROWS_AS(Checkpoints(directory, 0), ConfigError);
}

TEST_CASE("a save that was killed leaves the checkpoint before it, and is cleared away",
          "[api][checkpoint]") {
  const TempFolder folder;
  save_at(folder.path(), 2, {3, 5});
  // Killed before the manifest; and at the very start.
  fs::remove(folder.path() / "000002-step-5" / "manifest.json");
  fs::rename(folder.path() / "000002-step-5" / "model.pt", folder.path() / "000002-step-5" / "model.pt.part");
  fs::create_directories(folder.path() / "000003-step-6");
  run_local(2, [&](Context& context) {
    Run run(9);
    require(Checkpoints(folder.path()).load(run.state), "the one before");
    require(run.state.step == 3, "at its step");
    run.steps(context.rank(), 4);
    Checkpoints(folder.path()).save(run.state);
  });
  CHECK(folders(folder.path()) == std::vector<std::string>{"000001-step-3", "000004-step-4"});
}

TEST_CASE("truncated, changed and missing files are named", "[api][checkpoint]") {
  for (const std::string file : {"model.pt", "optimizer.pt", "rank-0.pt", "rank-1.pt", "manifest.json"}) {
    for (const int damage : {0, 1, 2}) {
      if (file == "manifest.json" && damage != 0) continue;  // no manifest is no checkpoint
      const TempFolder folder;
      save_at(folder.path(), 2, {2});
      const auto path = folder.path() / "000001-step-2" / file;
      if (damage == 0) fs::resize_file(path, fs::file_size(path) / 2);
      if (damage == 1) flip_byte(path);
      if (damage == 2) fs::remove(path);
      for (const auto& text : load_failures(folder.path())) {
        CHECK_THAT(text, ContainsSubstring("000001-step-2/" + file));
        CHECK(text.find('\n') == std::string::npos);
      }
    }
  }
  const TempFolder folder;
  save_at(folder.path(), 2, {2});
  truncate(folder.path() / "000001-step-2" / "model.pt");
  CHECK_THAT(load_failures(folder.path())[0], ContainsSubstring("remove the folder"));
}

TEST_CASE("a checkpoint of another model names the file and the key", "[api][checkpoint]") {
  const TempFolder folder;
  const auto save = [&](Mlp model) {
    TrainingState state;
    state.model = model.get();
    Checkpoints(folder.path()).save(state);
  };
  const auto load = [&](Mlp model) {
    TrainingState state;
    state.model = model.get();
    return message_of<DataError>([&] { Checkpoints(folder.path()).load(state); });
  };
  run_local(1, [&](Context&) {
    save(make_mlp(1, {6, 8, 3}));
    CHECK(load(make_mlp(1, {6, 8, 3})).empty());
    CHECK_THAT(load(make_mlp(1, {6, 8, 7, 3})),
               ContainsSubstring("model.pt") && ContainsSubstring("layer1.weight"));
    CHECK_THAT(load(make_mlp(1, {6, 8, 4})),
               ContainsSubstring("\"layer1.weight\" is Float [3, 8], the model's is Float [4, 8]"));
    CHECK_THAT(load(make_mlp(1, {6, 8})), ContainsSubstring("which the model lacks"));

    TrainingState more;
    Run run;
    CHECK_THROWS_WITH(Checkpoints(folder.path()).load(run.state), ContainsSubstring("optimizer.pt"));
    run.state.optimizer = nullptr;
    run.state.model = nullptr;
    CHECK_THROWS_WITH(Checkpoints(folder.path()).load(run.state),
                      ContainsSubstring("without the state of a reducer"));
  });
}

TEST_CASE("what cannot be saved is said on every rank, and leaves no checkpoint", "[api][checkpoint]") {
  const TempFolder folder;
  std::array<std::string, 2> messages;
  run_local(2, [&](Context& context) {
    TrainingState state;
    state.meta = "{not json";
    auto& text = messages[static_cast<std::size_t>(context.rank())];
    text = message_of<ConfigError>([&] { Checkpoints(folder.path()).save(state); });
    require(!message_of<DataError>([&] { Checkpoints("/proc/nowhere").save({}); }).empty(), "a folder");
    barrier();
  });
  for (const auto& text : messages) CHECK_THAT(text, ContainsSubstring("no valid JSON"));
  CHECK(folders(folder.path()).empty());
}

TEST_CASE("another world size: ranks with a part take it, new ones start without errors",
          "[api][checkpoint]") {
  for (const int saved : {1, 2, 3}) {
    const TempFolder folder;
    torch::Tensor parameters;
    std::vector<State> states(3);
    run_local(saved, [&](Context& context) {
      Run run;
      run.steps(context.rank(), 4);
      Checkpoints(folder.path()).save(run.state);
      states[static_cast<std::size_t>(context.rank())] = run.optimizer.reducer().state();
      if (context.rank() == 0) parameters = flatten(run.model->parameters());
    });
    for (const int ranks : {1, 2, 4}) {
      run_local(ranks, [&](Context& context) {
        Run run(20 + static_cast<std::uint64_t>(context.rank()));
        require(Checkpoints(folder.path()).load(run.state), "there is a checkpoint");
        require(torch::equal(flatten(run.model->parameters()), parameters), "parameters of rank 0");
        require(run.state.step == 4, "step");
        const bool own = context.rank() < saved;
        const State& expected = states[own ? static_cast<std::size_t>(context.rank()) : 0];
        for (const auto& [name, kinds] : run.optimizer.reducer().state()) {
          for (const auto& [kind, tensor] : kinds) {
            if (kind == "plan") continue;
            const bool error = kind == "error";
            require(own || !error || tensor.count_nonzero().item<std::int64_t>() == 0, "no errors of others");
            if (own || !error) require(torch::equal(tensor, expected.at(name).at(kind)), name + " " + kind);
          }
        }
        run.steps(context.rank(), 7);
        check_parameters_agree(*run.model);
      });
    }
  }
}

TEST_CASE("the newest one is described before it is restored", "[api][checkpoint]") {
  const TempFolder folder;
  run_local(2, [&](Context& context) {
    const Checkpoints checkpoints(folder.path());
    require(!checkpoints.newest(), "none yet");
    Run run;
    for (const std::uint64_t step : {1, 2}) {
      run.steps(context.rank(), step);
      run.state.epoch = 10 + step;
      run.state.seed = 20 + step;
      run.state.meta = R"({"job":)" + std::to_string(step) + "}";
      checkpoints.save(run.state);
    }
    const auto parameters = flatten(run.model->parameters()).clone();
    run.steps(context.rank(), 3);
    const auto newest = checkpoints.newest();
    require(newest && newest->folder == folder.path() / "000002-step-2", "the newest");
    require(newest->step == 2 && newest->epoch == 12 && newest->seed == 22 && newest->world_size == 2,
            "its place");
    require(newest->meta == R"({"job":2})", "its meta");
    require(!torch::equal(flatten(run.model->parameters()), parameters), "nothing is restored yet");
    checkpoints.load(run.state, newest->folder);
    require(torch::equal(flatten(run.model->parameters()), parameters), "now it is");
  });
  std::ofstream(folder.path() / "000002-step-2" / "manifest.json") << "{\"format\":1}";
  run_local(2, [&](Context&) {
    const auto text = message_of<DataError>([&] { (void)Checkpoints(folder.path()).newest(); });
    require(text.find("manifest.json is damaged") != std::string::npos, "on every rank: " + text);
    barrier();
  });
}

TEST_CASE("a certain checkpoint can be loaded by its folder", "[api][checkpoint]") {
  const TempFolder folder;
  save_at(folder.path(), 2, {1, 2, 3});
  run_local(2, [&](Context&) {
    Run run(9);
    Checkpoints(folder.path()).load(run.state, folder.path() / "000002-step-2");
    require(run.state.step == 2, "its step");
    require(!message_of<DataError>([&] {
               Checkpoints(folder.path()).load(run.state, folder.path() / "nothing");
             }).empty(),
            "a folder that is not there");
  });
}
