// The engine's stream: on a GPU its compressors work beside the back-propagation, on the CPU there is none.
#pragma once

#include <c10/core/StreamGuard.h>

#include <optional>
#include <span>

#include "comm/streams.h"
#include "compressors/bucket.h"

namespace acp {

// Orders the work of two threads on one device: what one has asked for before it hands something over is done
// before what the other asks for afterwards.
class EngineStream {
 public:
  // Of the device of `buckets`. ConfigError if they are on several GPUs.
  explicit EngineStream(std::span<const Bucket> buckets);

  // Makes it the calling thread's current stream as long as the result lives.
  std::optional<c10::StreamGuard> enter() const;

  // Where the calling thread's current stream has come to; null on the CPU.
  MarkPtr mark() const { return mark_current(device_); }

  // Returns when all is done that the calling thread has asked of it on its current stream.
  void finish() const noexcept;

 private:
  c10::Device device_ = c10::kCPU;
};

}  // namespace acp
