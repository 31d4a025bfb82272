// See staged.h.
#include "compressors/staged.h"

#include <ATen/ATen.h>

#include <utility>

namespace acp {
namespace {

class Staged final : public Compressor {
 public:
  Staged(const Bucket& bucket, const std::function<std::unique_ptr<Compressor>(const Bucket&)>& make)
      : mirror_(bucket) {
    // Page-locked, so that the GPU copies by itself.
    const auto options = bucket.storage.options().device(at::kCPU).pinned_memory(bucket.storage.is_cuda());
    mirror_.storage = at::zeros(bucket.storage.sizes(), options);
    mirror_.grads = mirror_.storage.narrow(0, 0, bucket.grads.numel());
    mirror_.squares = at::Tensor();
    inner_ = make(mirror_);
  }

  void prepare(Bucket&, const StepContext& context) override { inner_->prepare(mirror_, context); }

  Exchange exchange(Bucket& bucket, StepContext context) override {
    fetch(bucket);
    auto inner = inner_->exchange(mirror_, context);
    while (auto op = inner.advance()) {
      const auto in = there(op->in, bucket);
      const auto out = op->out.is_same(op->in) ? in : there(op->out, bucket);
      using Kind = Collective::Kind;
      if (op->kind == Kind::all_reduce) {
        co_await all_reduce(in, op->op);
      } else if (op->kind == Kind::reduce_scatter) {
        co_await reduce_scatter(in, out, op->op);
      } else if (op->kind == Kind::all_gather) {
        co_await all_gather(in, out);
      } else if (op->kind == Kind::all_gather_v) {
        co_await all_gather_v(in, out, op->out_counts);
      } else if (op->kind == Kind::all_to_all) {
        co_await all_to_all(in, out);
      } else if (op->kind == Kind::all_to_all_v) {
        co_await all_to_all_v(in, op->in_counts, out, op->out_counts);
      } else if (op->kind == Kind::send_receive) {
        co_await send_receive(op->send_to, in, op->receive_from, out);
      } else if (op->kind == Kind::broadcast) {
        co_await broadcast(in, op->root);
      }
      if (op->out.defined()) op->out.copy_(out);
    }
    give(bucket);
  }

  State state() const override { return inner_->state(); }
  void load_state(const State& state) override { inner_->load_state(state); }
  void set_levels(std::span<const Level> levels) override { inner_->set_levels(levels); }
  bool may_change(std::uint64_t step) const override { return inner_->may_change(step); }
  void set_probes(std::span<const double> ratios) override { inner_->set_probes(ratios); }
  at::Tensor error_memory() const override { return inner_->error_memory(); }
  bool sends_missing_count() const override { return inner_->sends_missing_count(); }

 private:
  void fetch(const Bucket& bucket) {
    mirror_.grads.copy_(bucket.grads);
    mirror_.used = bucket.used;
    mirror_.has_squares = bucket.has_squares;
    mirror_.squares = bucket.squares.defined() ? bucket.squares.cpu() : at::Tensor();
  }

  void give(Bucket& bucket) {
    bucket.grads.copy_(mirror_.grads);
    bucket.used = mirror_.used;
    norms_ = inner_->error_norms();
    probe_norms_ = inner_->probe_norms();
    sent_elements_ = inner_->sent_elements();
  }

  static at::Tensor there(const at::Tensor& x, const Bucket& bucket) {
    return x.defined() ? x.to(bucket.grads.device()) : x;
  }

  Bucket mirror_;
  std::unique_ptr<Compressor> inner_;
};

}  // namespace

std::unique_ptr<Compressor> make_staged(
    const Bucket& bucket, const std::function<std::unique_ptr<Compressor>(const Bucket&)>& make) {
  return std::make_unique<Staged>(bucket, make);
}

}  // namespace acp
