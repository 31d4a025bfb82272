// Every code that MPI returns goes through here.
#pragma once

#include <mpi.h>

#include <string>

namespace acp::mpi {

// "MPI_ERR_TRUNCATE: message truncated", in MPI's own words.
std::string error_text(int code);

// Throws CommunicationError with the call's name and MPI's text unless `code` is MPI_SUCCESS.
void check(int code, const char* call);

}  // namespace acp::mpi
