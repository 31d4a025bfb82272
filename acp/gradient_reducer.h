// Averages the gradients of named parameters over the ranks while the backward pass produces them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "acp/context.h"
#include "acp/options.h"
#include "compressors/compressor.h"

namespace acp {

// In registration order. A tensor that appears under two names (tied weights) is one parameter, known by its
// first.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// From torch's OrderedDict (Module::named_parameters()) or anything alike.
template <class OrderedDict>
NamedTensors named_tensors(const OrderedDict& items) {
  NamedTensors result;
  for (const auto& item : items) result.emplace_back(item.key(), item.value());
  return result;
}

// What the reductions of this process so far have cost this rank; differences of two snapshots give figures
// per step. Those before a resume are not among them.
struct ReducerStatistics {
  std::uint64_t steps = 0;
  std::uint64_t skipped = 0;        // steps that were left out, not among `steps`
  std::uint64_t payload_bytes = 0;  // inputs of all collectives
  std::uint64_t dense_bytes = 0;    // all gradients in their own dtype
  std::uint64_t collectives = 0;
  double encode_seconds = 0;   // local work of the exchanges up to their last collective
  double decode_seconds = 0;   // local work after it
  double exposed_seconds = 0;  // the user's thread waited in synchronize()
  // Sum over the steps of |y - s| / |y|, y being all that this rank had to send (gradients and error
  // memories) and s what its messages stood for; 0 unless Options::compression_error(true).
  double compression_error = 0;
  // The same sum of |y - s|^2, which is the total error of Sahu et al. 2021, section 4.
  double compression_error_squared = 0;
  // Steps at which a policy changed a setting; of the run, those before a resume among them.
  std::uint64_t plan_changes = 0;
  // Elements other than zero that this rank's messages stood for, of methods that choose some (LEGACY's
  // "communicated"); of the others 0.
  std::uint64_t sent_elements = 0;
};

// The machine behind DistributedOptimizer, for hand-written loops. Neither copyable nor movable; hooks hold
// its shared state, so it may be destroyed before the model. All ranks construct, attach and synchronize
// alike, and do so while the context lives.
class GradientReducer {
 public:
  explicit GradientReducer(Options options = {});
  GradientReducer(const NamedTensors& parameters, Options options = {});
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // Takes over these parameters; once, before the first backward pass. `requires_grad == false` is skipped.
  // Checks that all ranks have the same names, shapes and dtypes and names the first difference. ConfigError
  // also for two tensors of one name, and for a tensor that another reducer (or foreign hook) holds.
  void attach(const NamedTensors& parameters);

  // Waits until every gradient is the average over the ranks. Completes missing gradients with zeros; a
  // parameter that no rank used keeps what it had. Rethrows the first error of this step on any rank.
  void synchronize();

  // Without hooks: compresses and averages what is in .grad now.
  void reduce();

  // In hand-written loops every synchronize() closes a step. An optimizer that wraps this reducer says
  // require_finish_step() once; then a step lasts until finish_step(), synchronize() inside it reduces once,
  // and a gradient that arrives in between is an error.
  void require_finish_step();
  void finish_step();

  // For policies that count epochs: the coming step is the first of epoch `epoch` (from 0). On every rank
  // alike, between steps. Not needed where Options::steps_per_epoch() is set.
  void start_epoch(std::uint64_t epoch);
  // For policies that follow the learning rate: that of the step in progress, before synchronize().
  // DistributedOptimizer says it by itself. Rank 0's counts.
  void learning_rate(double rate);
  // For policies that go by the time of steps: something else (an evaluation) lies between the last step and
  // the coming one, whose time they leave out. start_epoch() and checkpoints say it by themselves.
  void pause();
  bool has_policy() const;  // one that changes something
  // What a policy has chosen, in registration order: rank, ratio or bits, empty = dense. No entries with
  // policy "uniform".
  std::vector<std::pair<std::string, Level>> levels() const;

  // The last synchronize() left the step out (Options::nonfinite("skip")): its gradients are zero on all
  // ranks, and error memories and step counters are as they were. DistributedOptimizer does not step then,
  // unless it steps by a closure: it then sees the zeros.
  bool skipped() const;
  // Of the momentum that the error memory in force contains ("dgc"); 0 otherwise.
  double memory_momentum() const;

  // For `variance`: the sum over this rank's samples of the coming step of (gradient of the sample / number
  // of samples)^2, of the parameter's shape. Before backward() begins the step, or, without hooks, before
  // reduce(); what is not given is counted from the backward passes that make up the step. ConfigError: no
  // such parameter, another shape, a compressor that has no use for it. DataError: a value that is negative
  // or not finite. Error: inside a step.
  void set_squares(const std::string& name, const at::Tensor& squares);

  // The mean of x over the ranks, x unchanged; between steps, on every rank alike.
  at::Tensor mean(const at::Tensor& x);

  // While alive, backward passes add up locally and nothing is reduced.
  class [[nodiscard]] NoSync;
  NoSync no_sync();

  // While alive, nothing is reduced: synchronize() (and hence step()) waits for nothing and leaves the local
  // gradients. Alive from the backward pass to the step; gradients that are on their way already when it
  // begins are an error of synchronize(), unless they have been synchronized.
  class [[nodiscard]] SkipSynchronize;
  SkipSynchronize skip_synchronize();

  ReducerStatistics statistics() const;
  Communicator::Traffic traffic() const;   // of the exchanges alone
  std::vector<std::string> names() const;  // in registration order
  // Megabytes of gradient in a bucket that the plan in force was made for; none before the first step, or
  // where the compressor makes one bucket of the model.
  std::optional<double> fusion_mb() const;

  // Compressors' state, step counter and plan of this rank, for checkpoints; load_state() before the first
  // backward pass or between steps. A plan of another world size or other options is made anew; the state is
  // kept by name.
  State state() const;
  void load_state(const State& state);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

class GradientReducer::NoSync {
 public:
  explicit NoSync(std::shared_ptr<Impl> impl);
  ~NoSync();
  NoSync(NoSync&&) noexcept = default;
  NoSync& operator=(NoSync&&) = delete;

 private:
  std::shared_ptr<Impl> impl_;
};

class GradientReducer::SkipSynchronize {
 public:
  explicit SkipSynchronize(std::shared_ptr<Impl> impl);
  ~SkipSynchronize();
  SkipSynchronize(SkipSynchronize&&) noexcept = default;
  SkipSynchronize& operator=(SkipSynchronize&&) = delete;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace acp
