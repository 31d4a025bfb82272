// The `nccl` backend: collectives between GPUs on a stream of their own.
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace acp::nccl {

// Opens the first channel among the ranks of `control`, over which the ranks agree on NCCL's identifier;
// `device` is the index of this rank's GPU. A collective call. ConfigError when built without NCCL.
std::unique_ptr<Communicator> connect(Communicator& control, int device);

}  // namespace acp::nccl
