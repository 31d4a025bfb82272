// Through libtorch's interface for any device, so that nothing here is built against CUDA.
#include "comm/streams.h"

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace acp {

namespace {

class EventMark final : public Mark {
 public:
  explicit EventMark(const c10::Stream& stream) : event_(stream.device_type()) { event_.record(stream); }
  bool reached() const override { return event_.query(); }
  void join() const override { event_.block(current_stream(event_.device())); }

 private:
  c10::Event event_;
};

}  // namespace

MarkPtr mark_current(c10::Device device) {
  return device.is_cpu() ? nullptr : mark_of(current_stream(device));
}

MarkPtr mark_of(const c10::Stream& stream) {
  return std::make_shared<EventMark>(stream);
}

c10::Stream side_stream(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, true);
}

c10::Stream current_stream(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

void finish(c10::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeStream(current_stream(device));
}

}  // namespace acp
