// Collectives of tensors on a GPU over a backend that works in the host's memory.
#pragma once

#include <cstddef>
#include <memory>

#include "comm/communicator.h"
#include "comm/staged/copies.h"

namespace acp {

// The same on all ranks.
struct Staging {
  std::size_t chunk_bytes = std::size_t{4} << 20;  // that a round has on the host, about
  // The host's backend reaches the device (CUDA-aware MPI): it performs send_receive for its tensors, and
  // nothing is copied (comm/staged/direct.h).
  bool direct = false;
};

// Cuts each collective of tensors that lie elsewhere into rounds; while one is on the wire, the next is
// copied to the host and the one before back to the device, all on streams of their own. get() of a future,
// and perform(), return when the results are on their way: they make the calling thread's current stream wait
// for them. Tensors in the host's memory go to `host` as they are, in the same order.
//
// Owns `host` and, from the first tensor elsewhere on, one thread, which ends with the object. Errors are
// those of `host`; a wait for the device has the same deadline.
std::unique_ptr<Communicator> stage(std::unique_ptr<Communicator> host, std::shared_ptr<DeviceCopies> copies,
                                    Staging staging = {});

}  // namespace acp
