// `fp16` and `bf16`: the dense average in 16 bits a number. The sum is formed in float32 and rounded once.
#include <ATen/ATen.h>

#include "compressors/registry.h"
#include "compressors/residual.h"

namespace acp {
namespace {

// One message: the rounded gradients, and behind them the count of the missing ones. Numbers beyond the
// 16-bit range become infinite on every rank, as in DDP's fp16 hook: a loss scaler sees the overflow and
// skips the step.
class Half final : public Compressor {
 public:
  Half(const Bucket& bucket, at::ScalarType type, bool error_memory, bool measure)
      : message_(at::empty({bucket.grads.numel() + 1}, bucket.grads.options().dtype(type))),
        measure_(measure) {
    if (error_memory) residual_.emplace(bucket, bucket.grads.scalar_type());
  }

  Exchange exchange(Bucket& bucket, StepContext) override {
    const auto rounded = message_.narrow(0, 0, bucket.grads.numel());
    const auto count = message_.narrow(0, bucket.grads.numel(), 1);
    const auto& input = residual_ ? residual_->compensate(bucket) : bucket.grads;
    rounded.copy_(input);
    if (measure_) norms_ = {squares(input - rounded), squares(input)};
    keep_rounding_error(bucket, rounded);
    put_missing(bucket, count);
    co_await all_reduce(message_, ReduceOp::average);
    if (some_missing(count)) {
      const auto bitmap = used_bitmap(bucket);
      co_await all_reduce(bitmap, ReduceOp::max);
      set_used(bucket, bitmap);
    }
    bucket.grads.copy_(rounded);
  }

  State state() const override {
    State state;
    if (residual_) residual_->save(state);
    return state;
  }
  void load_state(const State& state) override {
    if (residual_) residual_->load(state);
  }

 private:
  // error = (gradient + error) - rounded; an overflow is not carried on, it would poison all later steps. A
  // rank without gradient sends nothing and keeps its error: perhaps nobody uses the parameter.
  void keep_rounding_error(const Bucket& bucket, const at::Tensor& rounded) {
    if (!residual_) return;
    for (std::size_t k = 0; k < bucket.slices.size(); ++k) {
      const auto& slice = bucket.slices[k];
      if (bucket.used[k] == 0) rounded.narrow(0, slice.offset, slice.numel()).zero_();
    }
    auto error = residual_->flat();
    error.sub_(rounded);
    at::nan_to_num_(error, 0, 0, 0);
  }

  static double squares(const at::Tensor& x) {
    const auto norm = x.norm(2, at::kDouble).item<double>();
    return norm * norm;
  }

  at::Tensor message_;
  bool measure_;
  std::optional<Residual> residual_;
};

MethodInfo half(std::string name, std::string summary, at::ScalarType type) {
  return {
      .name = std::move(name),
      .summary = std::move(summary),
      .source = "dense average; DDP's communication hook of the same name",
      .all_reducible = true,
      .memories = {"none", "residual"},
      .wire_bytes = [](std::span<const std::int64_t> shape, std::int64_t,
                       const Values&) { return 2.0 * static_cast<double>(numel(shape)); },
      .make =
          [type](const Bucket& bucket, const Values&, const CompressorOptions& options) {
            return std::make_unique<Half>(bucket, type, options.memory == "residual", options.measure_error);
          },
  };
}

const bool registered =
    register_method(
        half("fp16", "dense average in IEEE half precision; beyond 65504 it is infinite", at::kHalf)) &&
    register_method(
        half("bf16", "dense average in bfloat16: the range of float32, 8 significant bits", at::kBFloat16));

}  // namespace
}  // namespace acp
