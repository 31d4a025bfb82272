// DistributedOptimizer<Base>: any torch optimizer, stepping with gradients averaged over the ranks.
#pragma once

#include <torch/optim/optimizer.h>

#include <memory>
#include <utility>

#include "acp/gradient_reducer.h"
#include "acp/optimizer_support.h"

namespace acp {

// *Is* the optimizer that it wraps (derives from Base, deduced from the argument that is moved in):
// schedulers, param_groups(), save/load and code that takes torch::optim::Optimizer& work as they are. Made
// by the same program on every rank. Schedulers are made after wrapping.
template <class Base>
class DistributedOptimizer final : public Base {
 public:
  // `named_parameters`: what Module::named_parameters() gives, or NamedTensors. ConfigError names a parameter
  // that the optimizer has and the names lack, or the reverse.
  template <class Names>
  DistributedOptimizer(Base base, const Names& named_parameters, Options options = {})
      : Base(std::move(base)),
        reducer_(detail::match_parameters(this->param_groups(), detail::to_named(named_parameters)),
                 std::move(options)) {
    reducer_.require_finish_step();
    detail::warn_of_momentum(this->param_groups(), reducer_);
  }
  // Parameters are named "group.index".
  explicit DistributedOptimizer(Base base, Options options = {})
      : Base(std::move(base)), reducer_(detail::number_parameters(this->param_groups()), std::move(options)) {
    reducer_.require_finish_step();
    detail::warn_of_momentum(this->param_groups(), reducer_);
  }
  DistributedOptimizer(const DistributedOptimizer&) = delete;
  DistributedOptimizer& operator=(const DistributedOptimizer&) = delete;

  // Reduces what has not been reduced since the last step, then steps the wrapped optimizer. With a closure:
  // reduces after each call of it, and hands the wrapped optimizer the mean of the losses over the ranks.
  at::Tensor step(typename Base::LossClosure closure = nullptr) override {
    at::Tensor loss;
    detail::tell_learning_rate(this->param_groups(), reducer_);
    if (closure) {
      loss = Base::step([&] {
        at::Tensor local = closure();
        reducer_.synchronize();
        reducer_.finish_step();
        return detail::mean_loss(reducer_, local);
      });
    } else {
      reducer_.synchronize();
      if (!reducer_.skipped()) loss = Base::step(nullptr);
    }
    reducer_.finish_step();
    return loss;
  }

  void synchronize() {
    detail::tell_learning_rate(this->param_groups(), reducer_);
    reducer_.synchronize();
  }
  // Before the first step of each epoch, for policies that count epochs (GradientReducer::start_epoch).
  void start_epoch(std::uint64_t epoch) {
    detail::tell_learning_rate(this->param_groups(), reducer_);
    reducer_.start_epoch(epoch);
  }
  // A step with this rank's own gradients: alive from backward() to step(). After synchronize() none is
  // needed.
  [[nodiscard]] auto skip_synchronize() { return reducer_.skip_synchronize(); }
  [[nodiscard]] auto no_sync() { return reducer_.no_sync(); }
  GradientReducer& reducer() { return reducer_; }
  const GradientReducer& reducer() const { return reducer_; }

 private:
  GradientReducer reducer_;
};

}  // namespace acp
