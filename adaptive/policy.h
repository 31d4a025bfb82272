// What an adaptive policy is: a function from what has been observed to a setting for every parameter, the
// same on all ranks. A policy is one .cpp file with a `const bool registered = register_policy({...})`.
//
// Policies are called between steps, and see nothing but reduced observations: whatever a rank measures by
// itself is averaged or gathered before (acp/policy_runner.h), so equal inputs give equal plans everywhere.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "adaptive/cost.h"
#include "compressors/compressor.h"
#include "compressors/registry.h"
#include "compressors/spec.h"

namespace acp {

// What a policy knows of a parameter; in registration order.
struct Layer {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t rows = 0, cols = 0;  // as the compressors see it (bucket.h)
  std::int64_t element_size = 4;
  bool compressed = true;  // by the compressor at its own setting; else it travels whole

  std::int64_t numel() const { return rows * cols; }
  bool is_matrix() const { return shape.size() > 1; }
};

// Between two steps.
struct Moment {
  std::uint64_t step = 0;        // reductions done, which is the number of the coming one
  std::uint64_t epoch = 0;       // of the coming step, from 0
  bool new_epoch = false;        // an epoch has ended since the last moment
  std::uint64_t epoch_step = 0;  // of the coming step within its epoch, from 0
};

// What is added up per layer, on each rank for itself.
enum class Accumulate : std::uint8_t {
  none,
  gradients,  // as backward left them
  inputs      // with the error memory: what is about to be compressed
};

// What a policy wants at a moment.
struct Request {
  // Of the coming step; `restart`: the sums begin at zero with it.
  Accumulate accumulate = Accumulate::none;
  bool restart = false;
  double weight = 1;          // of what is added
  bool one_rank = false;      // of each layer one rank keeps the sum: that which computes its errors
  bool begin_errors = false;  // the sums are complete: errors() of the layers is computed from now on
  // For plan() at this moment, which is not called if `plan` is false: the plan stays. (The first plan of a
  // run is always made.) The ranks compare their plans whenever it is called, a message of 8 bytes.
  bool plan = true;
  bool norms = false;       // Observations::norms, of the sums
  bool errors = false;      // Observations::errors; begin_errors came at this moment or before
  bool every_step = false;  // Observations::learning_rate and measured
};

// What the ranks measured in the step that has ended.
struct StepMeasure {
  double seconds = 0;        // the longest of the ranks; NaN: not measured
  double raw = 0;            // N(gradient), mean over the ranks, N being Plan::norm
  double input = 0;          // N(gradient + error memory)
  std::vector<double> kept;  // N(what is kept), for each of the step's Plan::probes
};

struct Observations {
  Moment moment;
  std::vector<double> norms;                // L2, per layer: root of the ranks' mean square
  std::vector<std::vector<double>> errors;  // per layer, as Policy::errors() has them; empty: not valid
  std::optional<double> learning_rate;      // rank 0's
  std::optional<StepMeasure> measured;
  CostModel costs;  // for policies that want them
};

// How norms of layers become one number.
enum class NormOf : std::uint8_t { sum, squares };

struct LevelPlan {
  std::vector<Level> levels;   // per layer; empty vector: the compressor's own
  std::vector<double> probes;  // kept fractions, descending, whose norms the coming step measures
  NormOf norm = NormOf::sum;
  std::string reason;  // a few words for the log; no part of the plan
};

// What is known when a policy is made.
struct PolicySetting {
  std::vector<Layer> layers;
  Knob knob = Knob::none;
  std::string compressor;  // for messages
  double own = 0;          // the compressor's own rank, ratio or bits
  bool by_layer = true;    // the compressor codes each parameter by itself
  int world_size = 1;
  std::uint64_t seed = 0;
  std::optional<std::int64_t> epochs, steps_per_epoch, steps;  // of the run, as far as known
  // Bytes per step that one rank sends of a layer at a level.
  std::function<double(const Layer&, const Level&)> wire_bytes;
};

// Numbers that a restart needs, by name.
using PolicyState = std::map<std::string, std::vector<double>>;

class Policy {
 public:
  virtual ~Policy() = default;

  // What plan() at this moment, and the coming step, need.
  virtual Request request(const Moment&) const { return {}; }
  // The plan for the coming step; at moment 0 there is nothing to observe yet. Called once a moment.
  virtual LevelPlan plan(const Observations& observations) = 0;

  // The errors of a layer's candidates, from the sum of its inputs (rows x cols); for policies that ask for
  // errors. Pure: called on a thread of its own.
  virtual std::vector<double> errors(std::size_t layer, const at::Tensor& input) const;

  virtual bool counts_epochs() const { return false; }  // Moment::epoch matters
  virtual bool wants_costs() const { return false; }    // Observations::costs
  virtual PolicyState state() const { return {}; }
  virtual void load_state(const PolicyState&) {}
};

struct PolicyInfo {
  std::string name;
  std::string summary;  // one line
  std::string source;   // paper, and what of it
  std::vector<std::string> aliases{};
  std::vector<KeyInfo> keys{};
  std::vector<Knob> knobs{Knob::rank, Knob::ratio, Knob::bits};  // that it can set
  bool by_layer = true;              // settings differ between parameters, so these must be coded one by one
  std::vector<std::string> joins{};  // policies that may follow with `+`
  std::function<std::unique_ptr<Policy>(const Values&, const PolicySetting&)> make{};
  // Where a policy that follows is more than the larger level of both: made with the other's values.
  std::function<std::unique_ptr<Policy>(const Values&, const Values& other, const PolicySetting&)> join{};
};

// True; Error if the name is taken.
bool register_policy(PolicyInfo info);
std::vector<const PolicyInfo*> policies();  // in alphabetical order
// ConfigError lists the known ones and the nearest.
const PolicyInfo& find_policy(std::string_view name);
// All policies and all their keys as two Markdown tables: the generated part of docs/policies.md.
std::string policies_table();

// A parsed specification: NAME[:key=value,...], or two of them with `+`. Every policy has the key warmup.
class PolicySpec {
 public:
  // ConfigError: unknown names and keys, a combination that is none.
  explicit PolicySpec(std::string_view text);
  const std::string& text() const { return text_; }  // normalised
  // "uniform" with no keys: the compressor's own setting throughout.
  bool fixed() const { return fixed_; }
  // ConfigError: values out of range, a compressor without a knob that the policy can set, an epoch or a
  // length of the run that is needed and not known.
  std::unique_ptr<Policy> make(const PolicySetting& setting) const;
  // The same before the run's length is known.
  void check(PolicySetting setting) const;

 private:
  std::vector<MethodSpec> parts_;
  std::string text_;
  bool fixed_ = false;
};

// What the compressor does without a policy, as levels.
std::vector<Level> own_levels(const PolicySetting& setting);

}  // namespace acp
