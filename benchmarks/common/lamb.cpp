// See lamb.h.
#include "benchmarks/common/lamb.h"

#include <torch/serialize/archive.h>
#include <torch/types.h>

#include <cmath>

namespace acp::programs {

using torch::serialize::InputArchive;
using torch::serialize::OutputArchive;

void LambOptions::serialize(OutputArchive& archive) const {
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(lr);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(betas);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(eps);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(weight_decay);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(adapt_vectors);
}

void LambOptions::serialize(InputArchive& archive) {
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, lr);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(Betas, betas);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, eps);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, weight_decay);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(bool, adapt_vectors);
}

void LambParamState::serialize(OutputArchive& archive) const {
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(step);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(exp_avg);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(exp_avg_sq);
}

void LambParamState::serialize(InputArchive& archive) {
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(std::int64_t, step);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(at::Tensor, exp_avg);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(at::Tensor, exp_avg_sq);
}

at::Tensor Lamb::step(LossClosure closure) {
  at::Tensor loss;
  if (closure) {
    const at::AutoGradMode with_gradients(true);
    loss = closure();
  }
  const torch::NoGradGuard no_gradients;
  for (auto& group : param_groups_) {
    const auto& options = static_cast<const LambOptions&>(group.options());
    const auto [beta1, beta2] = options.betas();
    for (auto& x : group.params()) {
      const at::Tensor& gradient = x.grad();
      if (!gradient.defined()) continue;
      TORCH_CHECK(!gradient.is_sparse(), "LAMB takes no sparse gradients");
      auto& slot = state_[x.unsafeGetTensorImpl()];
      if (!slot) {
        auto fresh = std::make_unique<LambParamState>();
        fresh->exp_avg(torch::zeros_like(x));
        fresh->exp_avg_sq(torch::zeros_like(x));
        slot = std::move(fresh);
      }
      auto& state = static_cast<LambParamState&>(*slot);
      state.step(state.step() + 1);
      state.exp_avg().mul_(beta1).add_(gradient, 1 - beta1);
      state.exp_avg_sq().mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);

      const auto t = static_cast<double>(state.step());
      const double correction1 = 1 - std::pow(beta1, t), correction2 = 1 - std::pow(beta2, t);
      const at::Tensor denominator = state.exp_avg_sq().div(correction2).sqrt_().add_(options.eps());
      at::Tensor update = state.exp_avg().div(denominator).div_(correction1);
      const bool adapted = options.adapt_vectors() || x.dim() > 1;
      double ratio = 1;
      if (adapted) {
        if (options.weight_decay() != 0) update.add_(x, options.weight_decay());
        const double length = x.norm().item<double>(), step = update.norm().item<double>();
        if (length > 0 && step > 0) ratio = length / step;
      }
      x.add_(update, -options.lr() * ratio);
    }
  }
  return loss;
}

void Lamb::save(OutputArchive& archive) const {
  torch::optim::serialize<LambParamState, LambOptions>(archive, *this);
}

void Lamb::load(InputArchive& archive) {
  torch::optim::serialize<LambParamState, LambOptions>(archive, *this);
}

}  // namespace acp::programs
