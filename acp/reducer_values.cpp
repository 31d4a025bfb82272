// What a reducer does with the values of gradients before they are handed over: clipping, NaN and infinity,
// squares.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "acp/reducer_impl.h"
#include "comm/error.h"
#include "comm/log.h"
#include "compressors/finite.h"

namespace acp {

void GradientReducer::Impl::clip_local() {
  double sum = 0;
  for (const Parameter& p : parameters) {
    if (p.slot.numel() > 0) sum += p.slot.norm(2, at::kDouble).pow(2).item<double>();
  }
  const double norm = std::sqrt(sum);
  if (norm <= options.clip_local()) return;
  for (const Parameter& p : parameters) {
    if (p.slot.numel() > 0) p.slot.mul_(options.clip_local() / norm);
  }
}

void GradientReducer::Impl::refuse_bad() {
  if (!bad) return;
  const auto error = std::make_exception_ptr(
      DataError(not_finite(channel->rank(), parameters[*bad].name) + advice_not_finite));
  channel->abort(error);
  std::rethrow_exception(error);
}

// One number of every rank: the first bad rank and its parameter. Nothing of the step is on its way yet.
bool GradientReducer::Impl::leave_out() {
  const auto count = static_cast<std::int64_t>(parameters.size());
  const std::int64_t none = std::numeric_limits<std::int64_t>::max();
  const at::Tensor first = at::full({1}, none, at::kLong);
  if (bad) first.fill_(channel->rank() * count + static_cast<std::int64_t>(*bad));
  Collective op = Collective::all_reduce(first, ReduceOp::min);
  op.label = "search for NaN, step " + std::to_string(step);
  perform(control, std::move(op));
  const auto found = first.item<std::int64_t>();
  if (found == none) return false;
  if (channel->rank() == 0) {
    log_warning(not_finite(static_cast<int>(found / count),
                           parameters[static_cast<std::size_t>(found % count)].name) +
                "; this step is left out on all ranks");
  }
  for (Parameter& p : parameters) p.stash.reset();
  for (std::size_t b = 0; b < engine->size(); ++b) {
    engine->bucket(b).grads.zero_();
    std::ranges::fill(engine->bucket(b).used, std::uint8_t{0});
  }
  return true;
}

// A pass adds its share to what earlier ones left: its own part is the difference.
void GradientReducer::Impl::count_squares(Parameter& p) {
  const at::Tensor& grad = p.tensor.grad();
  const at::Tensor now = (grad.layout() == at::kStrided ? grad : grad.to_dense()).to(at::kFloat);
  if (p.passes == 1) p.counted = at::zeros(p.tensor.sizes(), at::kFloat);
  p.counted.add_((p.passes == 1 ? now : now - p.before).square());
  p.before = p.passes < options.backward_passes_per_step() ? now.clone() : at::Tensor();
}

void GradientReducer::set_squares(const std::string& name, const at::Tensor& squares) {
  const c10::NoGradGuard no_grad;
  if (!impl_->factory.wants_squares()) {
    throw ConfigError("set_squares(): the compressor " + impl_->factory.spec() +
                      " has no use for squares; \"variance\" has");
  }
  const std::lock_guard lock(impl_->mutex);
  if (impl_->open && !impl_->reduced) {
    throw Error(
        "set_squares() inside a step: give the squares before backward() begins it, or use "
        "Options::hooks(false)");
  }
  const auto p = std::ranges::find(impl_->parameters, name, &Impl::Parameter::name);
  if (p == impl_->parameters.end())
    throw ConfigError("set_squares(): there is no parameter \"" + name + "\"");
  if (squares.sizes() != p->tensor.sizes()) {
    std::ostringstream text;
    text << "set_squares(): parameter \"" << name << "\" has shape " << p->tensor.sizes() << ", its squares "
         << squares.sizes();
    throw ConfigError(text.str());
  }
  at::Tensor given = squares.detach().to(at::kCPU, at::kFloat).clone(at::MemoryFormat::Contiguous);
  if (!all_finite(given) || (given.numel() > 0 && given.min().item<float>() < 0)) {
    throw DataError("set_squares(): the squares of parameter \"" + name +
                    "\" have negative, NaN or infinite values");
  }
  p->given = std::move(given);
}

}  // namespace acp
