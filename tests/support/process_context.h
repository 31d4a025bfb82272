// A backend can be started once in a process: the tests that run under a launcher share one context.
#pragma once

#include "acp/context.h"

namespace acp::test {

// Made by acp::init() for the first that asks: mpi under mpirun, tcp with RANK and WORLD_SIZE, else one rank.
Context& process_context();

// Ends it; called before main() returns.
void close_process_context();

}  // namespace acp::test
