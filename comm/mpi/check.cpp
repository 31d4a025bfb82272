// MPI's codes as exceptions.
#include "comm/mpi/check.h"

#include "comm/error.h"

namespace acp::mpi {

std::string error_text(int code) {
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return "error code " + std::to_string(code);
  return {text, static_cast<std::size_t>(length)};
}

void check(int code, const char* call) {
  if (code != MPI_SUCCESS) throw CommunicationError(std::string(call) + " failed: " + error_text(code));
}

}  // namespace acp::mpi
