// Copies on streams of their own, one for each direction, between the device and pinned memory.
#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <optional>

#include "comm/error.h"
#include "comm/staged/copies.h"

namespace acp {

namespace {

class StreamCopies final : public DeviceCopies {
 public:
  std::shared_ptr<DeviceCopies> another() const override { return stream_copies(); }

  bool elsewhere(const at::Tensor& x) const override { return x.defined() && !x.device().is_cpu(); }

  MarkPtr mark(const at::Tensor& x) const override { return mark_current(x.device()); }

  at::Tensor host_bytes(std::int64_t bytes) override {
    return at::empty({bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  }

  MarkPtr down(std::span<const Copy> copies, const MarkPtr& after) override {
    if (copies.empty()) return nullptr;
    return copy(stream(down_, copies.front().from.device()), copies, after);
  }

  MarkPtr up(std::span<const Copy> copies, const MarkPtr& after) override {
    if (copies.empty()) return nullptr;
    return copy(stream(up_, copies.front().to.device()), copies, after);
  }

 private:
  static c10::Stream stream(std::optional<c10::Stream>& mine, at::Device device) {
    if (!mine) mine = side_stream(device);
    if (mine->device() != device) {
      throw ConfigError("a rank works with one device: this tensor is on " + device.str() +
                        ", those before were on " + mine->device().str());
    }
    return *mine;
  }

  static MarkPtr copy(const c10::Stream& stream, std::span<const Copy> copies, const MarkPtr& after) {
    const c10::StreamGuard guard(stream);
    const c10::impl::VirtualGuardImpl device(stream.device_type());
    join(after);
    for (const Copy& each : copies) {
      each.to.copy_(each.from, true);
      const at::Tensor& there = each.to.device().is_cpu() ? each.from : each.to;
      device.recordDataPtrOnStream(there.storage().data_ptr(), stream);
    }
    return mark_of(stream);
  }

  std::optional<c10::Stream> down_, up_;
};

}  // namespace

std::shared_ptr<DeviceCopies> stream_copies() {
  return std::make_shared<StreamCopies>();
}

}  // namespace acp
