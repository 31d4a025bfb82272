// MPI can be started once in a process: the tests share one connection, made by the first that asks.
#pragma once

#include "comm/communicator.h"

namespace acp::test {

Communicator& mpi_channel();
int mpi_local_size();

// Ends it; called before main() returns.
void close_mpi();

}  // namespace acp::test
