// What staging asks of a device: copies that go on while the host does something else.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>

#include "comm/streams.h"

namespace acp {

// Used by one thread at a time, except elsewhere() and mark().
class DeviceCopies {
 public:
  struct Copy {
    at::Tensor to, from;  // of one size and dtype, contiguous
  };

  virtual ~DeviceCopies() = default;

  // With streams of its own, for another thread.
  virtual std::shared_ptr<DeviceCopies> another() const = 0;

  // Whether `x` lies where the host's backend cannot reach it.
  virtual bool elsewhere(const at::Tensor& x) const = 0;
  // After all that the calling thread has asked of the device of `x`.
  virtual MarkPtr mark(const at::Tensor& x) const = 0;
  // Memory of the host that copies reach without stopping it; `bytes` of kByte.
  virtual at::Tensor host_bytes(std::int64_t bytes) = 0;
  // Queues copies to the host behind `after` and the copies down before; the mark is reached when they are
  // done. The tensors' storage is safe from reuse until then.
  virtual MarkPtr down(std::span<const Copy> copies, const MarkPtr& after) = 0;
  // The same to the device, in an order of its own: behind `after`, for what the caller has asked of the
  // device before may still write where these do.
  virtual MarkPtr up(std::span<const Copy> copies, const MarkPtr& after) = 0;
};

// Over two streams of the device of the first tensor, and pinned memory.
std::shared_ptr<DeviceCopies> stream_copies();

}  // namespace acp
