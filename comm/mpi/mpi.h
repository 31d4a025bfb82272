// The `mpi` backend: point-to-point messages and native collectives of MPI, all calls made by one thread.
#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "comm/transport.h"

namespace acp::mpi {

// Starts MPI (or joins one that the program has started itself) and opens the first channel among all
// processes. The MPI thread lives as long as any transport; the last one ends MPI if it was started here, or
// calls MPI_Abort when it was aborted. ConfigError when built without MPI.
std::unique_ptr<Transport> connect();

// Makes `device` the one of the thread that calls MPI, which such an MPI asks for; `transport` is one of this
// backend.
void use_device(Transport& transport, c10::Device device);

// Rank and size among the processes of this host; of the launcher's variables if set, else asked of MPI.
struct Local {
  int rank = 0, size = 1;
};
Local local_rank(Transport& transport);

}  // namespace acp::mpi
