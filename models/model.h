// What a network is to the programs, and all networks by name. A model is one .cpp file with a
// `const bool registered = register_model({...})`.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "compressors/spec.h"
#include "models/data_set.h"

namespace acp::models {

// Named sums over samples ("count", "loss", "correct", ...; "tokens" where the loss adds up over tokens).
// They add up over batches and ranks, so that a metric of all ranks is metric(sum of the ranks' sums).
using Sums = std::map<std::string, double>;

void add(Sums& total, const Sums& part);

// The figure by which a model is judged.
struct Metric {
  std::string name;  // "accuracy" (per cent), ...
  double value = 0;
  bool higher_is_better = true;
};

// A network together with its loss and its measure of success. It knows nothing of ranks; parameters have any
// floating-point type (module.to(torch::kFloat64)) and batches come in the same.
class Model : public torch::nn::Module {
 public:
  // Models that carry a state from batch to batch (recurrent ones) forget it: before each epoch and each
  // evaluation. Within an epoch batches have the same rows, or at an evaluation's end fewer: the first ones.
  void reset_state() { carry({}); }
  // What is carried at this moment, without gradients, for checkpoints and for going on after an evaluation;
  // empty: nothing.
  virtual std::vector<at::Tensor> carried() const { return {}; }
  // Takes back what carried() gave.
  virtual void carry(std::vector<at::Tensor>) {}

  // Classes' targets become 1 - x, the rest of x spread evenly over all classes; in the training loss alone.
  // ConfigError where the loss is not over classes.
  virtual void set_label_smoothing(double x);

  // The training loss, a scalar: its mean over the batch's samples.
  virtual at::Tensor loss(const Batch& batch) = 0;

  // The sums of no samples: every name that evaluate() gives, with 0.
  virtual Sums no_sums() const = 0;
  // Over the batch's samples. Call in eval() mode and without gradients.
  virtual Sums evaluate(const Batch& batch) = 0;
  // From sums over at least one sample.
  virtual Metric metric(const Sums& sums) const = 0;
};

// What acp-train uses where the user says nothing.
struct TrainingDefaults {
  std::string optimizer = "sgd";
  double learning_rate = 0.1;
  double momentum = 0.9;
  double weight_decay = 0;
  double clip = 0;  // largest global norm of the reduced gradient; 0 = off
  std::string schedule = "constant";
  std::int64_t batch_size = 32;       // per rank
  std::int64_t eval_batch_size = 32;  // per rank
  std::int64_t epochs = 1;
};

struct ModelSize {
  std::int64_t parameters = 0;  // numbers that are trained
  std::int64_t tensors = 0;

  bool operator==(const ModelSize&) const = default;
};

struct ModelInfo {
  std::string name{};
  std::string summary{};
  ModelSize size{};     // by the default keys; the tests build the model and compare
  std::string small{};  // keys of a form that tests can train in seconds, "image=32,classes=10"; may be empty
  std::vector<KeyInfo> keys{};
  std::vector<std::string> data_sets{};  // the preferred first
  TrainingDefaults defaults{};
  // One sample's shapes by these keys: what data sets must give, and what synthetic data are made from.
  // Builds nothing.
  std::function<SampleSpec(const Values&)> sample{};
  // Keys that the data decide where the user does not: {"classes", [](const SampleSpec& s) {...}}.
  std::map<std::string, std::function<std::int64_t(const SampleSpec&)>> from_data{};
  std::function<std::shared_ptr<Model>(const Values&)> make{};
};

bool register_model(ModelInfo info);  // returns true; Error if the name is taken

// In alphabetical order.
std::vector<const ModelInfo*> models();

// ConfigError on an unknown name: lists the known ones and the nearest match.
const ModelInfo& find_model(std::string_view name);

// "name[:key=value,...]" parsed and checked.
struct ModelChoice {
  const ModelInfo* info = nullptr;
  MethodSpec spec;

  SampleSpec sample() const;
  // Keys that `spec` leaves open become what the data have (classes, vocabulary, ...); ConfigError when the
  // model still takes other samples than the set has.
  void fit(const DataSet& data);
  // Parameters are drawn from torch's generator: seed it before, the same on all ranks.
  std::shared_ptr<Model> make() const;
};

// ConfigError on an unknown name or key, or on a composition with '+'.
ModelChoice choose_model(std::string_view spec);

ModelSize size_of(const torch::nn::Module& module);

}  // namespace acp::models
