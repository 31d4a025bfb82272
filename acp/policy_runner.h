// Runs a policy beside a reducer: adds up and measures what it asks for, has the ranks agree on it, and hands
// its plans to the compressors between steps.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "acp/options.h"
#include "adaptive/policy.h"
#include "comm/communicator.h"
#include "fusion/engine.h"

namespace acp {

// observe() is the engine's thread's, during steps; errors of candidates are computed on a thread that lives
// from Request::begin_errors to Request::errors; everything else is the user's thread's, between steps.
class PolicyRunner {
 public:
  // `layers` in registration order, `link` as all ranks have it. ConfigError as PolicySpec::make() has it.
  PolicyRunner(const Options& options, const CompressorFactory& factory, std::vector<Layer> layers,
               Communicator& control, const LinkCost& link);

  // What all ranks must have alike, a line each.
  std::vector<std::string> settings() const;

  // Before an exchange: adds the bucket's gradients to the sums.
  void observe(const Bucket& bucket, const Compressor& compressor);

  // Once there are buckets; the first plan (or a restored one) is in force from then on.
  void attach(Engine& engine);
  // A reduction has ended.
  void after_step();
  // The next step's time runs from here on, unless what came before has made it useless as a measure.
  void begin_step() {
    if (mark_) mark_ = Clock::now();
  }
  // `epoch` begins; a collective call. ConfigError unless all ranks say the same.
  void start_epoch(std::uint64_t epoch);
  // Something other than training lies before the end of the coming step, so its time is no measure.
  void not_timed() { mark_.reset(); }
  void learning_rate(double rate) { learning_rate_ = rate; }

  // Per layer; what is in force, or will be with the first step.
  const std::vector<Level>& levels() const { return levels_; }
  std::uint64_t changes() const { return changes_; }  // steps at which some level changed

  void save(State& state);
  void load(const State& state, std::uint64_t step);

 private:
  using Clock = std::chrono::steady_clock;
  using Rows = std::vector<std::pair<std::size_t, std::vector<double>>>;  // layer, its errors

  Moment moment() const { return {steps_, epoch_, new_epoch_, epoch_step_}; }
  void advance(const Moment& now, bool step_ended);
  void prepare_step(const Request& request);
  void reset();
  void begin_errors();
  std::vector<double> agree_norms();
  void agree_errors(Observations& seen);
  void agree_costs();
  void agree_measures(Observations& seen, bool step_ended);
  // Every rank's numbers, in rank order.
  std::vector<std::vector<double>> gather(const std::vector<double>& mine, const char* label);
  void decide(const Observations& seen);  // a collective call
  void adopt(LevelPlan plan);
  void apply();
  void hand_out(std::vector<std::unique_ptr<Compressor>>& compressors) const;  // levels_
  void log_change(const std::vector<Level>& before) const;
  bool owns(std::size_t layer) const;
  double work() const;  // sum over the layers of numbers times rank
  std::string signature() const;

  PolicySpec spec_;
  PolicySetting setting_;
  std::unique_ptr<Policy> policy_;
  Communicator& control_;
  Engine* engine_ = nullptr;

  std::unordered_map<std::string, std::size_t> index_;  // of a layer
  std::vector<int> owner_;                              // rank that computes a layer's errors; -1: none
  std::uint64_t steps_ = 0;                             // reductions of the run
  std::uint64_t epoch_ = 0, epoch_step_ = 0;            // of the coming step: start_epoch()'s, else counted
  bool epoch_started_ = false, new_epoch_ = false, late_epoch_ = false;

  std::vector<Level> levels_, wanted_;  // in force; as planned
  std::vector<double> probes_;
  NormOf norm_ = NormOf::sum;
  std::string reason_;
  bool planned_ = false;
  bool handed_out_ = false;  // the compressors have levels_
  bool restored_ = false;    // a plan, and no other has been made since
  std::uint64_t changes_ = 0;

  Accumulate accumulate_ = Accumulate::none;  // of the step in progress
  bool restart_ = false, one_rank_ = false;
  double weight_ = 1;
  std::vector<at::Tensor> sums_;  // per layer, rows x cols; undefined: none

  std::future<Rows> errors_;
  CostModel costs_;                 // gamma as measured
  double coding_seconds_ = 0;       // of the engine, when the window began
  std::uint64_t coding_steps_ = 0;  // and its steps

  double learning_rate_;
  // Where the step in progress began; nothing if more than the step lies behind it (evaluations, saving).
  std::optional<Clock::time_point> mark_;
};

}  // namespace acp
