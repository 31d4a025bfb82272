// In place of the nccl backend where the build has no NCCL.
#include "comm/error.h"
#include "comm/nccl/nccl.h"

namespace acp::nccl {

std::unique_ptr<Communicator> connect(Communicator&, int) {
  throw ConfigError("built without NCCL; use the backend mpi or tcp");
}

}  // namespace acp::nccl
