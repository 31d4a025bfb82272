// MPI in this process: started or joined once, and how the process ends after a failure.
#pragma once

#include <string>

#include "comm/mpi/mpi.h"

namespace acp::mpi {

// What the MPI thread learns at the start.
struct Started {
  bool here = false;  // by this library, which then ends it, too
  Local local;
  bool cuda_aware = false;  // takes memory of a GPU (Open MPI's MPIX_Query_cuda_support)
};

// Starts MPI on the calling thread, or joins one that the program has started. Blocks until all processes of
// the job have come. ConfigError if MPI has ended already or gives too little thread support.
Started start_mpi();

// Ends MPI if it was started here; a collective call.
void end_mpi(const Started& started);

// From the first call on, the end of the process asks `leave` once: given the exit status, it returns the
// status to end with by MPI_Abort, or 0 for an ordinary end. main() has returned by then, and printed what it
// has to say.
void at_exit(int (*leave)(int status));

}  // namespace acp::mpi
