// See gpu.h.
#include "tests/gpu/gpu.h"

#include <ATen/ATen.h>

#include <cstdio>
#include <functional>

#include "comm/cuda/cuda.h"
#include "comm/error.h"
#include "comm/nccl/nccl.h"
#include "tests/support/rank_driver.h"

namespace acp::test {

namespace {

bool lacks(const std::function<void()>& require) {
  try {
    require();
    return false;
  } catch (const ConfigError& error) {
    std::printf("skipped: %s\n", error.what());
    return true;
  }
}

class OnGpu final : public Communicator {
 public:
  explicit OnGpu(std::unique_ptr<Communicator> device) : device_(std::move(device)) {}
  int rank() const override { return device_->rank(); }
  int size() const override { return device_->size(); }
  std::string_view backend() const override { return device_->backend(); }
  Traffic traffic() const override { return device_->traffic(); }
  void abort(std::exception_ptr reason) noexcept override { device_->abort(std::move(reason)); }
  std::unique_ptr<Communicator> channel() override { return on_gpu(device_->channel()); }

  std::future<void> start(Collective op) override {
    const at::Tensor in = op.in, out = op.out;
    if (out.defined()) op.out = out.to(at::Device(at::kCUDA, 0));
    if (in.defined()) {
      // Where the input is a part of the output, it is one there, too.
      const bool inside = out.defined() && in.storage().is_alias_of(out.storage()) && in.numel() > 0;
      op.in = in.is_same(out) ? op.out
              : inside ? op.out.view(-1).narrow(0, in.storage_offset() - out.storage_offset(), in.numel())
                       : in.to(at::Device(at::kCUDA, 0));
    }
    const at::Tensor result = op.out;
    return std::async(std::launch::deferred, [out, result, done = device_->start(std::move(op))]() mutable {
      done.get();
      if (out.defined()) out.copy_(result);
    });
  }

 private:
  std::unique_ptr<Communicator> device_;
};

}  // namespace

bool no_gpu() {
  return lacks(cuda::require);
}
bool no_nccl() {
  return lacks(nccl::require);
}

std::unique_ptr<Communicator> on_gpu(std::unique_ptr<Communicator> device) {
  return std::make_unique<OnGpu>(std::move(device));
}

std::shared_ptr<void> use_gpu() {
  bucket_device() = at::Device(at::kCUDA, 0);
  return {nullptr, [](void*) { bucket_device() = at::kCPU; }};
}

}  // namespace acp::test
