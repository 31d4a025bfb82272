// GradientReducer: hooks on the parameters, hand-over to the engine, the end of a step.
#include "acp/gradient_reducer.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "acp/reducer_impl.h"
#include "comm/error.h"
#include "compressors/finite.h"
#include "fusion/ownership.h"

namespace acp {

namespace {

using Clock = std::chrono::steady_clock;

// What libtorch calls after it has accumulated a parameter's gradient.
template <class Impl>
class ArrivalHook final : public torch::autograd::PostAccumulateGradHook {
 public:
  ArrivalHook(std::shared_ptr<Impl> impl, std::size_t index) : impl_(std::move(impl)), index_(index) {}
  void operator()(const at::Tensor&) override {
    const c10::NoGradGuard no_grad;
    impl_->on_gradient(index_);
  }

 private:
  std::shared_ptr<Impl> impl_;
  std::size_t index_;
};

}  // namespace

void GradientReducer::Impl::install_hooks() {
  for (const Parameter& p : parameters) {
    if (torch::autograd::impl::post_acc_grad_hooks(p.tensor)) {
      throw ConfigError(
          "parameter \"" + p.name +
          "\" already has a post-accumulate hook: another reducer or optimizer of this library, or a hook "
          "of the program, holds it; destroy that one first, or use Options::hooks(false)");
    }
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    torch::autograd::impl::set_post_acc_grad_hooks(
        parameters[i].tensor, std::make_unique<ArrivalHook<Impl>>(shared_from_this(), i));
  }
}

void GradientReducer::Impl::remove_hooks() {
  for (const Parameter& p : parameters) torch::autograd::impl::set_post_acc_grad_hooks(p.tensor, nullptr);
}

void GradientReducer::Impl::on_gradient(std::size_t index) {
  const std::lock_guard lock(mutex);
  Parameter& p = parameters[index];
  if (p.arrived || reduced) {
    // autograd has added it already, to what may be on its way: this step cannot end well, guard or not.
    damage =
        "parameter \"" + p.name + "\" received another gradient after its gradient of this step " +
        (reduced ? "had been reduced" : "was complete") +
        ": call step() once per backward pass, or accumulate with Options::backward_passes_per_step(n) or "
        "no_sync() before the last pass";
    throw Error(damage);
  }
  if (no_sync > 0 || skip > 0) {
    p.local = true;
    return;
  }
  if (!open) {
    open = true;
    report(Event::Kind::backward_begin, Clock::now());
  }
  p.local = true;
  ++p.passes;
  if (factory.wants_squares() && options.backward_passes_per_step() > 1) count_squares(p);
  if (p.passes < options.backward_passes_per_step()) return;
  p.arrived = true;
  if (!engine) {
    order.push_back(static_cast<int>(index));
    arrivals.push_back(Clock::now());
    return;
  }
  if (p.slot.numel() == 0) return;
  adopt(p);
  if (--remaining[p.bucket] == 0 && overlaps()) hand_over(p.bucket);
}

// Puts the gradient into its place and makes .grad share it. The gradient may be our alias already, a new
// tensor, non-contiguous or sparse.
void GradientReducer::Impl::adopt(Parameter& p) {
  at::Tensor& grad = p.tensor.mutable_grad();
  const bool ours =
      grad.layout() == at::kStrided && grad.data_ptr() == p.slot.data_ptr() && grad.is_contiguous();
  if (!ours) p.alias.copy_(grad.layout() == at::kStrided ? grad : grad.to_dense());
  take_ownership(p.slot);
  if (!ours) grad = p.alias;
  if (p.squares.defined()) {
    const auto& squares = p.given.defined() ? p.given : p.counted;
    if (squares.defined()) p.squares.copy_(squares);
    *p.has_squares = squares.defined() ? 1 : 0;
  }
  // Here, while it is in the cache.
  if (options.nonfinite() != "auto" && !bad && !all_finite(p.slot)) {
    bad = static_cast<std::size_t>(&p - parameters.data());
  }
}

void GradientReducer::Impl::hand_over(std::size_t bucket) {
  handed[bucket] = true;
  engine->ready(bucket);
}

bool GradientReducer::Impl::overlaps() const {
  return options.overlap() && options.hooks() && options.clip_local() == 0 && options.nonfinite() != "skip";
}

void GradientReducer::Impl::report(Event::Kind kind, Clock::time_point begin) const {
  if (options.events()) options.events()({kind, step, -1, 0, 0, begin, Clock::now()});
}

void GradientReducer::Impl::collect_all() {
  for (std::size_t i = parameters.size(); i-- > 0;) {
    Parameter& p = parameters[i];
    if (!p.tensor.grad().defined() || p.arrived) continue;
    p.arrived = true;
    p.local = true;
    if (!engine) {
      order.push_back(static_cast<int>(i));
      arrivals.push_back(Clock::now());
    } else if (p.slot.numel() > 0) {
      adopt(p);
      --remaining[p.bucket];
    }
  }
}

void GradientReducer::Impl::synchronize() {
  const c10::NoGradGuard no_grad;
  if (!attached) throw Error("synchronize() before attach(): give the reducer its parameters first");
  {
    const std::lock_guard lock(mutex);
    if (!damage.empty()) throw Error(damage);
    if (!reduced) skipped = false;
    if (skip > 0) {
      if (open && !reduced) {
        throw Error(
            "skip_synchronize() around step() alone: the gradients of this step are on their way already; "
            "call "
            "synchronize() before it, or have the guard (or no_sync()) alive during backward() too");
      }
      return;
    }
    if (reduced) return;
    if (!options.hooks()) collect_all();
  }
  const auto begin = Clock::now();
  report(Event::Kind::backward_end, begin);
  if (!engine) plan_from_observation();
  if (engine->size() > 0) {
    {
      const std::lock_guard lock(mutex);
      complete_missing();
      skipped = options.nonfinite() == "skip" && leave_out();
      if (options.nonfinite() == "error") refuse_bad();
    }
    if (!skipped) {
      const std::lock_guard lock(mutex);
      if (options.clip_local() > 0) clip_local();
      for (std::size_t b = 0; b < handed.size(); ++b) {
        if (!handed[b]) hand_over(b);
      }
    }
    if (!skipped) engine->synchronize();
    restore_unused();
    if (policy && !skipped) policy->after_step();
    if (policy && skipped) policy->not_timed();
  }
  const std::lock_guard lock(mutex);
  exposed_seconds += std::chrono::duration<double>(Clock::now() - begin).count();
  report(Event::Kind::synchronize, begin);
  ++(skipped ? left_out : reductions);
  ++step;
  reduced = true;
  if (!explicit_steps) reset_step();
}

// What has no complete gradient takes part with what it accumulated locally, or with zeros.
void GradientReducer::Impl::complete_missing() {
  for (Parameter& p : parameters) {
    if (p.slot.numel() == 0) continue;
    Bucket& bucket = engine->bucket(p.bucket);
    if (handed[p.bucket]) continue;  // complete by definition
    at::Tensor& grad = p.tensor.mutable_grad();
    if (!p.arrived && p.local && grad.defined()) {
      adopt(p);
      p.arrived = true;
    }
    bucket.used[p.slice] = p.arrived ? 1 : 0;
    if (p.arrived) continue;
    if (grad.defined() && grad.data_ptr() == p.slot.data_ptr()) p.stash = p.slot.clone();
    p.slot.zero_();
  }
}

void GradientReducer::Impl::restore_unused() {
  for (Parameter& p : parameters) {
    if (p.slot.numel() == 0) continue;
    take_ownership(p.slot);
    const bool used = engine->bucket(p.bucket).used[p.slice] != 0;
    if (!used && p.stash.defined()) p.slot.copy_(p.stash);
    if (used && !p.arrived) p.tensor.mutable_grad() = p.alias;
    p.stash.reset();
  }
}

void GradientReducer::Impl::reset_step() {
  for (Parameter& p : parameters) {
    p.passes = 0;
    p.local = p.arrived = false;
    p.given.reset();
    p.counted.reset();
  }
  if (engine) {
    for (std::size_t b = 0; b < engine->size(); ++b) {
      Bucket& bucket = engine->bucket(b);
      remaining[b] = bucket.slices.size();
      handed[b] = false;
      std::ranges::fill(bucket.used, std::uint8_t{1});
    }
  }
  open = reduced = false;
  bad.reset();
}

GradientReducer::GradientReducer(Options options)
    : impl_(std::make_shared<Impl>(std::move(options), current_context().open_channel(),
                                   current_context().control_channel(), current_context().link_cost(),
                                   current_context().device())) {
  // ACP_TRACE sees every reducer, whatever sink the program has.
  if (EventSink trace = current_context().events()) {
    if (EventSink own = impl_->options.events()) {
      trace = [own = std::move(own), trace = std::move(trace)](const Event& event) {
        own(event);
        trace(event);
      };
    }
    impl_->options.events(std::move(trace));
  }
}

GradientReducer::GradientReducer(const NamedTensors& parameters, Options options)
    : GradientReducer(std::move(options)) {
  attach(parameters);
}

GradientReducer::~GradientReducer() {
  if (!impl_) return;
  if (impl_->attached && impl_->options.hooks()) impl_->remove_hooks();
  impl_->engine.reset();  // now, not when the last hook goes: its thread must not outlive the reducer
}

void GradientReducer::attach(const NamedTensors& parameters) {
  impl_->attach(parameters);
  if (impl_->options.hooks()) impl_->install_hooks();
  impl_->attached = true;
}

void GradientReducer::synchronize() {
  impl_->synchronize();
}

void GradientReducer::reduce() {
  if (impl_->options.hooks()) {
    throw ConfigError("reduce() is for reducers without hooks: use Options::hooks(false), or synchronize()");
  }
  impl_->synchronize();
}

void GradientReducer::finish_step() {
  const std::lock_guard lock(impl_->mutex);
  if (!impl_->explicit_steps) return;
  impl_->reset_step();
  if (impl_->policy) impl_->policy->begin_step();
}

void GradientReducer::start_epoch(std::uint64_t epoch) {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->open && !impl_->reduced)
      throw Error("start_epoch() inside a step: call it before backward() or after step()");
  }
  if (impl_->policy) impl_->policy->start_epoch(epoch);
}

void GradientReducer::pause() {
  if (impl_->policy) impl_->policy->not_timed();
}

bool GradientReducer::has_policy() const {
  return impl_->policy != nullptr;
}

void GradientReducer::learning_rate(double rate) {
  if (impl_->policy) impl_->policy->learning_rate(rate);
}

std::vector<std::pair<std::string, Level>> GradientReducer::levels() const {
  std::vector<std::pair<std::string, Level>> result;
  if (!impl_->policy) return result;
  const auto& levels = impl_->policy->levels();
  for (std::size_t i = 0; i < levels.size(); ++i) result.emplace_back(impl_->parameters[i].name, levels[i]);
  return result;
}

void GradientReducer::require_finish_step() {
  impl_->explicit_steps = true;
}

bool GradientReducer::skipped() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->skipped;
}

double GradientReducer::memory_momentum() const {
  return impl_->factory.memory_momentum();
}

at::Tensor GradientReducer::mean(const at::Tensor& x) {
  const c10::NoGradGuard no_grad;
  at::Tensor result = x.detach().to(at::kCPU).clone(at::MemoryFormat::Contiguous);
  Collective op = Collective::all_reduce(result, ReduceOp::average);
  op.label = "mean of the loss";
  perform(impl_->control, std::move(op));
  return result.to(x.device());
}

GradientReducer::NoSync GradientReducer::no_sync() {
  return NoSync(impl_);
}
GradientReducer::SkipSynchronize GradientReducer::skip_synchronize() {
  return SkipSynchronize(impl_);
}

GradientReducer::NoSync::NoSync(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {
  const std::lock_guard lock(impl_->mutex);
  ++impl_->no_sync;
}
GradientReducer::NoSync::~NoSync() {
  if (!impl_) return;
  const std::lock_guard lock(impl_->mutex);
  --impl_->no_sync;
}
GradientReducer::SkipSynchronize::SkipSynchronize(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {
  const std::lock_guard lock(impl_->mutex);
  ++impl_->skip;
}
GradientReducer::SkipSynchronize::~SkipSynchronize() {
  if (!impl_) return;
  const std::lock_guard lock(impl_->mutex);
  --impl_->skip;
}

ReducerStatistics GradientReducer::statistics() const {
  ReducerStatistics s;
  const std::lock_guard lock(impl_->mutex);
  s.steps = impl_->reductions;
  s.skipped = impl_->left_out;
  s.plan_changes = impl_->policy ? impl_->policy->changes() : 0;
  s.dense_bytes = impl_->reductions * impl_->dense_bytes_per_step;
  s.exposed_seconds = impl_->exposed_seconds;
  if (impl_->engine) {
    const EngineStatistics e = impl_->engine->statistics();
    s.payload_bytes = e.payload_bytes;
    s.collectives = e.collectives;
    s.encode_seconds = e.encode_seconds;
    s.decode_seconds = e.decode_seconds;
    s.compression_error = e.error_sum;
    s.compression_error_squared = e.squared_error_sum;
    s.sent_elements = e.sent_elements;
  }
  return s;
}

std::optional<double> GradientReducer::fusion_mb() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->fusion_mb;
}

Communicator::Traffic GradientReducer::traffic() const {
  return impl_->channel->traffic();
}

std::vector<std::string> GradientReducer::names() const {
  std::vector<std::string> result;
  for (const auto& p : impl_->parameters) result.push_back(p.name);
  return result;
}

State GradientReducer::state() const {
  return impl_->state();
}
void GradientReducer::load_state(const State& state) {
  impl_->load_state(state);
}

}  // namespace acp
