// The `nccl` backend: collectives of GPU tensors on a communication stream.
#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace acp::nccl {

// ConfigError when built without NCCL, or when there is no GPU for it (cuda::require()).
void require();

// Opens NCCL among the ranks of the communicator (tcp or mpi) that `bootstrap` connects, over which NCCL's
// identifiers travel, and all collectives of tensors in the host's memory. ConfigError as require(), before
// anything is connected.
//
// Every channel has an NCCL communicator and a stream of high priority of its own, made by its first
// collective of GPU tensors. get() of a future makes the calling thread's current stream wait, and returns; a
// failure that NCCL reports later, a lost rank, or the deadline (ACP_TIMEOUT) ends what is under way by
// ncclCommAbort, and the next call on any channel of the backend throws. One rank has one device, and a
// device one rank.
std::unique_ptr<Communicator> connect(const std::function<std::unique_ptr<Communicator>()>& bootstrap);

}  // namespace acp::nccl
