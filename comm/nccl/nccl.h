// The `nccl` backend: collectives of GPU tensors on a communication stream.
#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace acp::nccl {

// ConfigError when built without NCCL.
void require();

// Opens NCCL among the ranks of the communicator (tcp or mpi) that `bootstrap` connects, over which NCCL's
// identifier travels. ConfigError when built without NCCL, before anything is connected.
std::unique_ptr<Communicator> connect(const std::function<std::unique_ptr<Communicator>()>& bootstrap);

}  // namespace acp::nccl
