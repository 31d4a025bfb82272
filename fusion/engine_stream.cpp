// See engine_stream.h.
#include "fusion/engine_stream.h"

#include "comm/error.h"

namespace acp {

EngineStream::EngineStream(std::span<const Bucket> buckets) {
  for (const Bucket& bucket : buckets) {
    const c10::Device device = bucket.storage.device();
    if (device.is_cpu() || device == device_) continue;
    if (!device_.is_cpu()) {
      throw ConfigError("the gradients are on " + device_.str() + " and on " + device.str() +
                        "; a rank works with one GPU");
    }
    device_ = device;
  }
}

std::optional<c10::StreamGuard> EngineStream::enter() const {
  if (device_.is_cpu()) return std::nullopt;
  return std::optional<c10::StreamGuard>(std::in_place, side_stream(device_));
}

void EngineStream::finish() const noexcept {
  try {
    acp::finish(device_);
  } catch (...) {  // the device is lost: nothing writes any more
    return;
  }
}

}  // namespace acp
