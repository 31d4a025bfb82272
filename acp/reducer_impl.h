// The shared state of a GradientReducer: parameters, their places in the buckets, and where the step stands.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "acp/gradient_reducer.h"
#include "acp/policy_runner.h"
#include "comm/link_cost.h"
#include "compressors/registry.h"
#include "fusion/engine.h"
#include "fusion/plan.h"

namespace acp {

// Hooks (autograd's threads) and the user's thread meet here under `mutex`; the engine's thread never does.
// Hooks hold it by shared_ptr, so a reducer may go before its model.
struct GradientReducer::Impl : std::enable_shared_from_this<Impl> {
  struct Parameter {
    std::string name;
    at::Tensor tensor;
    std::size_t bucket = 0, slice = 0;
    at::Tensor slot;     // flat view of the bucket
    at::Tensor alias;    // the slot in the parameter's shape, without autograd view: what .grad becomes
    int passes = 0;      // backward passes counted since the last step
    bool local = false;  // has a gradient that no hand-over covers (no_sync, or fewer passes than asked for)
    bool arrived = false;  // complete for this step
    at::Tensor squares;    // Bucket::squares in the parameter's shape, where the compressor wants them
    std::uint8_t* has_squares = nullptr;  // the bucket's flag beside them
    at::Tensor given;                     // set_squares() for this step
    at::Tensor counted;                   // of the passes of this step, where they are counted
    at::Tensor before;  // the gradient after the last pass of this step, where passes are counted
    at::Tensor stash;   // of a missing gradient: what .grad held, in case that no rank has one
  };

  Impl(Options options, std::unique_ptr<Communicator> channel, Communicator& control, const LinkCost& link,
       at::Device device);

  // Start-up.
  void attach(const NamedTensors& named);
  void install_hooks();
  void remove_hooks();

  // A backward pass.
  void on_gradient(std::size_t index);
  void adopt(Parameter& p);
  void count_squares(Parameter& p);  // of the pass that has just ended
  void hand_over(std::size_t bucket);

  // The end of a step.
  void synchronize();
  void collect_all();  // without hooks: .grad as it is now
  void complete_missing();
  void clip_local();
  void refuse_bad();  // nonfinite "error": throws if a gradient of this rank is bad, and tells the peers
  bool leave_out();   // nonfinite "skip": whether some rank's gradient is bad; then all become zero
  void restore_unused();
  void reset_step();

  // The plan, made from rank 0's observed order (or taken from a checkpoint).
  void plan_from_observation();
  double choose_fusion();  // "auto": rank 0's choice, on all ranks
  void build(const Plan& plan);
  std::vector<ParameterInfo> parameter_infos() const;
  std::vector<Layer> layers() const;   // as policies see them
  std::string plan_text() const;       // signature, then one line of names for each bucket
  std::string plan_signature() const;  // what must be equal for a stored plan to be taken
  std::optional<Plan> parse_plan(const std::string& text) const;

  State state();
  void load_state(const State& saved);
  void apply_state(const State& saved);  // to the engine

  bool overlaps() const;
  void report(Event::Kind kind, std::chrono::steady_clock::time_point begin) const;

  Options options;
  CompressorFactory factory;
  std::unique_ptr<Communicator> channel;  // the exchanges' alone, so its traffic is theirs; outlives engine
  Communicator& control;                  // the context's, for plans, checks and means: in calls alone
  LinkCost link;                          // of the network, for policies
  at::Device device;                      // of this rank
  std::unique_ptr<PolicyRunner> policy;   // null: every setting is the compressor's own; outlives engine
  std::unique_ptr<Engine> engine;         // once planned
  std::vector<Parameter> parameters;
  bool attached = false;
  bool explicit_steps = false;  // finish_step() ends a step (DistributedOptimizer), not synchronize()

  std::mutex mutex;
  std::vector<int> order;                                       // first step: in which gradients arrived
  std::vector<std::chrono::steady_clock::time_point> arrivals;  // and when, beside `order`
  std::optional<double> fusion_mb;                              // of the plan in force
  std::vector<std::size_t> remaining;                           // per bucket: gradients still to come
  std::vector<bool> handed;                                     // per bucket: the engine has it
  bool open = false;                                            // a gradient has arrived in this step
  bool reduced = false;                                         // this step has been synchronized
  bool skipped = false;            // the last step that was synchronized has been left out
  std::optional<std::size_t> bad;  // the first parameter of this step whose gradient is not finite
  int no_sync = 0, skip = 0;       // guards alive
  std::string damage;              // a gradient came too late: no step can end any more
  std::uint64_t reductions = 0;    // of this process: what statistics are about
  std::uint64_t left_out = 0;      // of this process: steps skipped for a gradient that is not finite
  std::uint64_t step = 0;          // of the run, so with those before a resume: what events are about
  std::optional<State> pending;    // loaded before the plan
  double exposed_seconds = 0;
  std::uint64_t dense_bytes_per_step = 0;
};

}  // namespace acp
