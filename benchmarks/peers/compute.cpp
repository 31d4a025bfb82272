// For compute.py: forward, backward and SGD of one model on one thread, without ranks, gradient hooks or a
// data loader. Prints one JSON object.
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "benchmarks/common/command_line.h"
#include "benchmarks/common/program.h"
#include "models/model.h"

namespace {

using namespace acp;

models::Batch random_batch(const models::ModelChoice& choice, std::int64_t size) {
  const auto data = models::load_data(
      models::choose_data(choice.info->data_sets, "synthetic:train=" + std::to_string(size) + ",eval=1"),
      {.wanted = choice.sample()});
  std::vector<std::int64_t> all(static_cast<std::size_t>(size));
  std::iota(all.begin(), all.end(), std::int64_t{0});
  return data.train->get(all, 0);
}

int compute(const programs::CommandLine& line) {
  constexpr auto infinity = std::numeric_limits<double>::infinity();
  at::set_num_threads(1);
  torch::manual_seed(1);
  const auto choice = models::choose_model(line.text("model"));
  const auto batch = random_batch(choice, line.integer("batch-size", 1, 1 << 20));
  const auto model = choice.make();
  const auto options = torch::optim::SGDOptions(line.number("lr", 0, infinity))
                           .momentum(line.number("momentum", 0, 1))
                           .weight_decay(line.number("weight-decay", 0, infinity));
  torch::optim::SGD optimizer(model->parameters(), options);
  const auto warmup = line.integer("warmup", 0, 1 << 20), steps = line.integer("steps", 1, 1 << 20);
  std::vector<double> times;
  for (std::int64_t step = 0; step < warmup + steps; ++step) {
    const auto begin = std::chrono::steady_clock::now();
    optimizer.zero_grad();
    const auto loss = model->loss(batch);
    loss.backward();
    optimizer.step();
    loss.item<double>();
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - begin;
    if (step >= warmup) times.push_back(time.count());
  }
  std::sort(times.begin(), times.end());
  const double median = (times[times.size() / 2] + times[(times.size() - 1) / 2]) / 2;
  std::cout << nlohmann::json{{"median", median}, {"parameters", models::size_of(*model).parameters}} << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return programs::run_program("peers-compute", [&] {
    programs::CommandLine line("peers-compute", "Compute alone, for benchmarks/peers/compute.py.",
                               {{"model", "NAME", "", "As acp-train takes it.", ""},
                                {"batch-size", "N", "8", "Samples of a step.", ""},
                                {"steps", "N", "20", "Measured steps.", ""},
                                {"warmup", "N", "5", "Steps before them.", ""},
                                {"lr", "X", "0.001", "Learning rate.", ""},
                                {"momentum", "X", "0.9", "Of SGD.", ""},
                                {"weight-decay", "X", "0", "Of SGD.", ""}});
    programs::before_start([&] { line.parse(argc, argv); });
    return compute(line);
  });
}
