// In place of the nccl backend in builds without NCCL.
#include "comm/error.h"
#include "comm/nccl/nccl.h"

namespace acp::nccl {

std::unique_ptr<Communicator> connect(const std::function<std::unique_ptr<Communicator>()>&) {
  throw ConfigError("this build of ACP is without NCCL: use the backend mpi or tcp");
}

}  // namespace acp::nccl
