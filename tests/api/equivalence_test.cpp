// S-SGD on N ranks with batches of b ends where one process with batches of N * b does, on every backend and
// with every setting of fusion, overlap, algorithm and accumulation.
#include <torch/torch.h>

#include <map>
#include <mutex>
#include <sstream>

#include "acp/acp.h"
#include "models/digits.h"
#include "models/loader.h"
#include "models/model.h"
#include "tests/catch.h"
#include "tests/support/process_context.h"

namespace acp {
namespace {

using namespace models;
namespace nn = torch::nn;

constexpr std::int64_t batch_size = 3;  // per rank and backward pass
constexpr std::int64_t steps = 20;

// Small and smooth: no ReLU or max-pooling that could flip on a last bit.
class Smooth final : public Model {
 public:
  Smooth()
      : conv1(register_module("conv1", nn::Conv2d(nn::Conv2dOptions(1, 4, 5)))),
        conv2(register_module("conv2", nn::Conv2d(nn::Conv2dOptions(4, 6, 5)))),
        fc(register_module("fc", nn::Linear(96, 10))) {}

  at::Tensor loss(const Batch& batch) override {
    at::Tensor x = torch::avg_pool2d(torch::tanh(conv1(batch.inputs[0])), 2);
    x = torch::avg_pool2d(torch::tanh(conv2(x)), 2);
    return torch::nll_loss(torch::log_softmax(fc(x.flatten(1)), 1), batch.target);
  }
  Sums no_sums() const override { return {}; }
  Sums evaluate(const Batch&) override { return {}; }
  Metric metric(const Sums&) const override { return {}; }

 private:
  nn::Conv2d conv1, conv2;
  nn::Linear fc;
};

struct Network {
  const char* name;
  at::ScalarType dtype;
  double tolerance;  // of all parameters together, relative L2
  std::function<std::shared_ptr<Model>()> make;
};

const Network networks[] = {
    {"mnist fp64", torch::kDouble, 1e-10, [] { return choose_model("mnist:dropout=0").make(); }},
    {"mnist fp32", torch::kFloat, 1e-4, [] { return choose_model("mnist:dropout=0").make(); }},
    {"smooth fp32", torch::kFloat, 1e-6, [] { return std::make_shared<Smooth>(); }},
};

const char* const optimizers[] = {"sgd", "adam", "adamw"};

// Calls use(torch optimizer). Adam divides by sqrt(v) + eps: with the default of 1e-8 the last bits of
// gradients near zero would become whole steps.
template <class Use>
void with_optimizer(const std::string& name, Model& model, Use&& use) {
  using namespace torch::optim;
  if (name == "sgd") {
    use(SGD(model.parameters(), SGDOptions(0.05).momentum(0.9)));
  } else if (name == "adam") {
    use(Adam(model.parameters(), AdamOptions(1e-3).eps(1e-6)));
  } else {
    use(AdamW(model.parameters(), AdamWOptions(1e-3).eps(1e-6).weight_decay(0.05)));
  }
}

at::Tensor flat(const Model& model) {
  std::vector<at::Tensor> parts;
  for (const auto& parameter : model.parameters())
    parts.push_back(parameter.detach().reshape(-1).to(torch::kDouble));
  return torch::cat(parts);
}

// Twenty steps of so many passes each, over as many epochs as they take.
template <class Optimizer>
void train(Model& model, Optimizer& optimizer, const TrainingLoader& loader, int passes) {
  model.train();
  std::int64_t pass = 0;
  for (std::int64_t epoch = 0; pass < steps * passes; ++epoch) {
    for (const Batch& batch : loader.epoch(epoch)) {
      if (pass % passes == 0) optimizer.zero_grad();
      (model.loss(batch) / passes).backward();
      if (++pass % passes == 0) optimizer.step();
      if (pass == steps * passes) break;
    }
  }
}

// What all ranks have to agree with: the data, the first parameters, and where one process gets. Made before
// any thread starts, then only read.
class Reference {
 public:
  explicit Reference(int ranks) : ranks_(ranks) {
    // One pass a step makes one epoch, two make two; neither leaves an incomplete batch.
    Images images = draw_digits(steps * ranks * batch_size, 1, 0);
    const Normalisation normalisation = normalisation_of(images);
    samples_ = std::make_shared<ImageSamples>(std::move(images), normalisation);
    torch::manual_seed(11);
    for (const Network& network : networks) {
      const auto first = network.make();
      first->to(network.dtype);
      for (const char* optimizer : optimizers) {
        for (const int passes : {1, 2}) {
          const auto model = network.make();
          copy(*first, *model, network);
          with_optimizer(optimizer, *model,
                         [&](auto base) { train(*model, base, loader(network, 0, 1, ranks_ * passes), 1); });
          ends_[key(network, optimizer, passes)] = flat(*model);
        }
      }
      firsts_[network.name] = first;
    }
  }

  int ranks() const { return ranks_; }

  // For a rank of `size`, with so many batches of a rank and pass in each of its own.
  TrainingLoader loader(const Network& network, int rank, int size, std::int64_t batches) const {
    LoaderOptions options;
    options.rank = rank;
    options.size = size;
    options.batch_size = batches * batch_size;
    options.dtype = network.dtype;
    return {samples_, options};
  }

  // Gives the model the parameters from which the reference began.
  void start(Model& model, const Network& network) const { copy(*firsts_.at(network.name), model, network); }

  // ||theta - reference|| / ||reference||
  double distance(const Model& model, const Network& network, const std::string& optimizer,
                  int passes) const {
    const at::Tensor& end = ends_.at(key(network, optimizer, passes));
    return ((flat(model) - end).norm() / end.norm()).item<double>();
  }

  // The same for the parameters at the start: how far training went.
  double way(const Network& network, const std::string& optimizer, int passes) const {
    return distance(*firsts_.at(network.name), network, optimizer, passes);
  }

 private:
  static std::string key(const Network& network, const std::string& optimizer, int passes) {
    return network.name + (' ' + optimizer) + ' ' + std::to_string(passes);
  }
  static void copy(const Model& from, Model& to, const Network& network) {
    const torch::NoGradGuard no_gradients;
    to.to(network.dtype);
    const auto source = from.parameters();
    auto target = to.parameters();
    for (std::size_t i = 0; i < source.size(); ++i) target[i].copy_(source[i]);
  }

  int ranks_;
  std::shared_ptr<const Samples> samples_;
  std::map<std::string, std::shared_ptr<Model>> firsts_;
  std::map<std::string, at::Tensor> ends_;
};

struct Setting {
  const Network* network;
  std::string optimizer;
  Algorithm algorithm;
  bool overlap;
  double fusion_mb;
  int passes;

  std::string text() const {
    std::ostringstream out;
    out << network->name << ' ' << optimizer << ' ' << to_string(algorithm)
        << (overlap ? " overlap" : " no overlap") << " fusion " << fusion_mb << " MB, passes " << passes;
    return out.str();
  }
};

// All 24 ways of reducing for one pair of network and optimizer; for the others six, in which every value of
// every setting meets every other one over the pairs.
std::vector<Setting> all_settings(bool has_native) {
  constexpr double fusions[] = {0, 1.0 / 1024, 25};
  std::vector<Setting> settings;
  int pair = 0;
  for (const Network& network : networks) {
    for (const char* optimizer : optimizers) {
      const bool whole = pair == 0;
      for (int i = 0; i < (whole ? 24 : 6); ++i) {
        const bool native = i % 2 == 1;
        const bool overlap = (whole ? i / 12 : i / 2 + pair) % 2 == 0;
        const int passes = 1 + (whole ? i / 6 : i / 3 + pair / 2) % 2;
        if (native && whole && !has_native) continue;
        settings.push_back({&network, optimizer, native && has_native ? Algorithm::native : Algorithm::ring,
                            overlap, fusions[i % 3], passes});
      }
      ++pair;
    }
  }
  return settings;
}

// The test itself, on the rank that `context` is; all ranks run it. Returns what did not hold.
std::vector<std::string> walk(const Context& context, const Reference& reference) {
  std::vector<std::string> failures;
  for (const Setting& setting : all_settings(context.backend() != "local")) {
    const Network& network = *setting.network;
    const auto model = network.make();
    model->to(network.dtype);
    if (context.rank() == 0) reference.start(*model, network);
    broadcast_parameters(*model);
    const TrainingLoader loader = reference.loader(network, context.rank(), context.size(), 1);
    with_optimizer(setting.optimizer, *model, [&](auto base) {
      DistributedOptimizer optimizer(std::move(base), model->named_parameters(),
                                     Options()
                                         .algorithm(setting.algorithm)
                                         .overlap(setting.overlap)
                                         .fusion_mb(setting.fusion_mb)
                                         .backward_passes_per_step(setting.passes));
      train(*model, optimizer, loader, setting.passes);
    });
    check_parameters_agree(*model);
    const double distance = reference.distance(*model, network, setting.optimizer, setting.passes);
    if (!(distance <= network.tolerance)) {
      std::ostringstream text;
      text << setting.text() << ": distance " << distance << ", allowed " << network.tolerance;
      failures.push_back(text.str());
    }
  }
  return failures;
}

void report(const std::vector<std::string>& failures) {
  for (const std::string& failure : failures) {
    UNSCOPED_INFO(failure);
  }
  CHECK(failures.empty());
}

}  // namespace

TEST_CASE("the reference goes a long way compared with the tolerances", "[api][equivalence]") {
  const Reference reference(2);
  for (const Network& network : networks) {
    for (const char* optimizer : optimizers) {
      for (const int passes : {1, 2}) CHECK(reference.way(network, optimizer, passes) > 0.01);
    }
  }
}

TEST_CASE("N ranks train as one process does: local", "[api][equivalence]") {
  const int ranks = GENERATE(2, 3, 4);
  const Reference reference(ranks);
  std::mutex mutex;
  std::vector<std::string> failures;
  run_local(ranks, [&](Context& context) {
    const auto mine = walk(context, reference);
    const std::lock_guard lock(mutex);
    for (const std::string& failure : mine) {
      failures.push_back("rank " + std::to_string(context.rank()) + ": " + failure);
    }
  });
  report(failures);
}

// Under mpirun, or a launcher that sets RANK and WORLD_SIZE.
TEST_CASE("N ranks train as one process does: processes", "[api-mpi][equivalence]") {
  Context& context = test::process_context();
  const Reference reference(context.size());
  try {
    report(walk(context, reference));
  } catch (...) {
    context.abort(std::current_exception());  // else the others would wait for their deadline
    throw;
  }
}

}  // namespace acp
