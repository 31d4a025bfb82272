// What ranks do together: errors before training, buffers, evaluation.
#include "benchmarks/common/replicas.h"

#include <torch/torch.h>

#include <atomic>
#include <mutex>
#include <set>

#include "benchmarks/common/program.h"
#include "comm/error.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::programs;

namespace {

// Counts samples and adds up their numbers; a buffer shifts them, so that an evaluation shows whose buffer it
// used.
struct Counting : models::Model {
  Counting() {
    weight = register_parameter("weight", torch::ones({2}));
    shift = register_buffer("shift", torch::zeros({1}));
    register_parameter("frozen", torch::ones({2}), false);
  }
  at::Tensor loss(const models::Batch& batch) override { return (batch.inputs[0] * weight.sum()).mean(); }
  models::Sums no_sums() const override { return {{"count", 0}, {"loss", 0}, {"doubled", 0}}; }
  models::Sums evaluate(const models::Batch& batch) override {
    CHECK_FALSE(is_training());
    return {{"count", static_cast<double>(batch.size)},
            {"loss", (batch.inputs[0] + shift).sum().item<double>()},
            {"doubled", 2 * batch.inputs[0].sum().item<double>()}};
  }
  models::Metric metric(const models::Sums& sums) const override {
    return {"samples", sums.at("count"), true};
  }
  at::Tensor weight, shift;
};

class Numbers final : public models::Samples {
 public:
  std::int64_t size() const override { return 23; }
  models::Batch get(std::span<const std::int64_t> indices, std::int64_t) const override {
    auto input = torch::empty({static_cast<std::int64_t>(indices.size()), 1});
    for (std::size_t i = 0; i < indices.size(); ++i)
      input[static_cast<std::int64_t>(i)] = static_cast<float>(indices[i]);
    return {{input}, input.clone(), static_cast<std::int64_t>(indices.size())};
  }
};

}  // namespace

TEST_CASE("an evaluation covers each sample once, with rank 0's buffers", "[api][replicas]") {
  for (const int ranks : {1, 2, 3, 5}) {
    std::mutex mutex;
    std::set<std::pair<double, double>> answers;
    run_local(ranks, [&](Context& context) {
      Counting model;
      model.shift.fill_(context.rank() == 0 ? 1 : 100);
      models::LoaderOptions options;
      options.rank = context.rank();
      options.size = context.size();
      options.batch_size = 4;
      const auto result = programs::evaluate(context, model, std::make_shared<Numbers>(), options);
      const std::lock_guard lock(mutex);
      CHECK(model.is_training());
      CHECK(model.shift.item<float>() == 1);
      CHECK(result.means.size() == 2);
      CHECK(result.means.at("doubled") == Approx(22.0));
      answers.emplace(result.metric.value, *result.loss);
    });
    REQUIRE(answers.size() == 1);
    CHECK(answers.begin()->first == 23);
    CHECK(answers.begin()->second == Approx(22.0 / 2 + 1));
  }
}

TEST_CASE("a loss is per token where tokens are counted, other means are per sample", "[api][replicas]") {
  struct Talking final : Counting {
    // As many tokens in a sample as its number says, each with a loss of 3.
    models::Sums no_sums() const override { return {{"count", 0}, {"loss", 0}, {"tokens", 0}, {"twos", 0}}; }
    models::Sums evaluate(const models::Batch& batch) override {
      const double tokens = batch.inputs[0].sum().item<double>();
      const auto count = static_cast<double>(batch.size);
      return {{"count", count}, {"loss", 3 * tokens}, {"tokens", tokens}, {"twos", 2 * count}};
    }
  };
  run_local(2, [](Context& context) {
    Talking model;
    const models::LoaderOptions options{.rank = context.rank(), .size = context.size(), .batch_size = 4};
    const auto result = programs::evaluate(context, model, std::make_shared<Numbers>(), options);
    CHECK(*result.loss == Approx(3.0));
    CHECK(result.means.at("twos") == Approx(2.0));
    CHECK_FALSE(result.means.contains("tokens"));
  });
}

TEST_CASE("training goes on after an evaluation with the state that it had", "[api][replicas]") {
  struct Carrying final : Counting {
    std::vector<at::Tensor> carried() const override { return state; }
    void carry(std::vector<at::Tensor> given) override { state = std::move(given); }
    models::Sums evaluate(const models::Batch& batch) override {
      if (first) CHECK(state.empty());  // an evaluation begins a walk of its own
      first = false;
      state = {at::full({1}, -1.0)};
      return Counting::evaluate(batch);
    }
    std::vector<at::Tensor> state{at::full({1}, 7.0)};
    bool first = true;
  };
  run_local(1, [](Context& context) {
    Carrying model;
    models::LoaderOptions options;
    options.batch_size = 4;
    programs::evaluate(context, model, std::make_shared<Numbers>(), options);
    CHECK_FALSE(model.first);
    REQUIRE(model.state.size() == 1);
    CHECK(model.state[0].item<double>() == 7.0);
  });
}

TEST_CASE("frozen parameters are not trained", "[api][replicas]") {
  const Counting model;
  const auto parameters = unique_parameters(model);
  REQUIRE(parameters.size() == 1);
  CHECK(parameters[0].first == "weight");
}

TEST_CASE("a tensor under two names is trained once", "[api][replicas]") {
  struct Tied : torch::nn::Module {
    Tied() {
      const auto weight = register_parameter("a", torch::ones({2}));
      register_parameter("b", weight);
    }
  };
  const auto parameters = unique_parameters(Tied());
  REQUIRE(parameters.size() == 1);
  CHECK(parameters[0].first == "a");
}

TEST_CASE("weight decay leaves out biases and normalisation, as asked for", "[api][replicas]") {
  const torch::nn::Sequential net(torch::nn::Conv2d(1, 2, 3), torch::nn::BatchNorm2d(2),
                                  torch::nn::LSTM(2, 2), torch::nn::Linear(2, 2));
  const auto names = [&](const std::vector<std::string>& kinds) {
    std::set<std::string> found;
    for (const auto& [name, tensor] : undecayed_parameters(*net, kinds)) found.insert(name);
    return found;
  };
  CHECK(names({}).empty());
  CHECK(names({"norm"}) == std::set<std::string>{"1.weight", "1.bias"});
  CHECK(names({"bias"}) ==
        std::set<std::string>{"0.bias", "1.bias", "2.bias_ih_l0", "2.bias_hh_l0", "3.bias"});
  CHECK(names({"bias", "norm"}).size() == 6);
}

TEST_CASE("figures are written as their kind is read", "[api][replicas]") {
  CHECK(to_string(models::Metric{"accuracy", 98.472, true}) == "accuracy 98.47 %");
  CHECK(to_string(models::Metric{"perplexity", 123.456, false}) == "perplexity 123.46");
  CHECK(to_string(models::Metric{"HR@10", 0.60123, true}) == "HR@10 0.6012");
}

TEST_CASE("an error on some ranks ends all of them with the same code and message", "[api][replicas]") {
  std::atomic<int> told = 0;
  run_local(3, [&](Context& context) {
    agree(context, [] {});  // nothing happens
    try {
      agree(context, [&] {
        if (context.rank() > 0) throw DataError("no file " + std::to_string(context.rank()));
      });
    } catch (const AgreedError& error) {
      if (error.code() == 3 && std::string(error.what()) == "rank 1: no file 1") ++told;
    }
    try {
      agree(context, [] { throw ConfigError("bad"); });
    } catch (const AgreedError& error) {
      if (error.code() == 2 && std::string(error.what()) == "bad") ++told;
    }
  });
  CHECK(told == 6);
}

TEST_CASE("exit codes follow the kind of error", "[api][replicas]") {
  CHECK(exit_code(ConfigError("")) == 2);
  CHECK(exit_code(DataError("")) == 3);
  CHECK(exit_code(CommunicationError("")) == 4);
  CHECK(exit_code(PeerError(1, "")) == 4);
  CHECK(exit_code(Error("")) == 1);
  CHECK(exit_code(std::runtime_error("")) == 1);
  CHECK(run_program("test", [] { return 7; }) == 7);
}
