// In place of the mpi backend in builds without MPI.
#include "comm/error.h"
#include "comm/mpi/mpi.h"

namespace acp::mpi {

std::unique_ptr<Transport> connect() {
  throw ConfigError(
      "built without MPI: install Open MPI 4.1 or newer and configure again, or use the backend tcp");
}

void use_device(Transport&, c10::Device) {}

Local local_rank(Transport&) {
  return {};
}

}  // namespace acp::mpi
