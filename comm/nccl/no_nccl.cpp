// In place of the nccl backend in builds without NCCL.
#include "comm/error.h"
#include "comm/nccl/nccl.h"

namespace acp::nccl {

void require() {
  throw ConfigError(
      "this build of ACP is without NCCL (configured where there was no nvcc or no nccl.h, or with "
      "-Dnccl=disabled): use "
      "the backend mpi or tcp");
}

std::unique_ptr<Communicator> connect(const std::function<std::unique_ptr<Communicator>()>&) {
  require();
  return nullptr;
}

}  // namespace acp::nccl
