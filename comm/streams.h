// Places in a device's order of work, and streams beside the caller's. On the CPU everything happens at once.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <memory>

namespace acp {

// A place in the order of what a device was asked to do. Null where there is nothing to wait for. Any thread.
class Mark {
 public:
  virtual ~Mark() = default;
  virtual bool reached() const = 0;
  // What the calling thread asks of the device from now on (on its current stream) comes after this place.
  virtual void join() const = 0;
};
using MarkPtr = std::shared_ptr<const Mark>;

inline void join(const MarkPtr& mark) {
  if (mark) mark->join();
}

// After all that the calling thread has asked of `device` on its current stream; null for the CPU.
MarkPtr mark_current(c10::Device device);
// After all that `stream` has been given.
MarkPtr mark_of(const c10::Stream& stream);

// A stream of high priority beside that of the back-propagation; of libtorch's pool, which keeps it.
c10::Stream side_stream(c10::Device device);
// The calling thread's.
c10::Stream current_stream(c10::Device device);
// Returns once all is done that the calling thread has asked of `device` on its current stream.
void finish(c10::Device device);

}  // namespace acp
