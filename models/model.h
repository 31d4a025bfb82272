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

// Named sums over samples ("count", "loss", "correct", ...). They add up over batches and ranks, so that a
// metric of all ranks is metric(sum of the ranks' sums).
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
  // One sample's shapes: what data sets must give, and what synthetic data are made from.
  virtual SampleSpec sample() const = 0;

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
  std::string schedule = "constant";
  std::int64_t batch_size = 32;       // per rank
  std::int64_t eval_batch_size = 32;  // per rank
  std::int64_t epochs = 1;
};

struct ModelInfo {
  std::string name{};
  std::string summary{};
  std::vector<KeyInfo> keys{};
  std::vector<std::string> data_sets{};  // the preferred first
  TrainingDefaults defaults{};
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

  // Parameters are drawn from torch's generator: seed it before, the same on all ranks.
  std::shared_ptr<Model> make() const;
};

// ConfigError on an unknown name or key, or on a composition with '+'.
ModelChoice choose_model(std::string_view spec);

struct ModelSize {
  std::int64_t parameters = 0;  // numbers that are trained
  std::int64_t tensors = 0;
};

ModelSize size_of(const torch::nn::Module& module);

}  // namespace acp::models
