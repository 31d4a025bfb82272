// MPI_Init and its conditions, MPI_Finalize, and MPI_Abort at the very end of a failed process.
#include "comm/mpi/process.h"

#include <mpi.h>
#if __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include <atomic>
#include <cstdlib>
#include <optional>
#include <string>

#include "comm/error.h"
#include "comm/mpi/check.h"

namespace acp::mpi {

namespace {

bool initialized() {
  int yes = 0;
  check(MPI_Initialized(&yes), "MPI_Initialized");
  return yes != 0;
}

bool finalized() {
  int yes = 0;
  check(MPI_Finalized(&yes), "MPI_Finalized");
  return yes != 0;
}

const char* level_name(int level) {
  switch (level) {
    case MPI_THREAD_SINGLE:
      return "MPI_THREAD_SINGLE";
    case MPI_THREAD_FUNNELED:
      return "MPI_THREAD_FUNNELED";
    case MPI_THREAD_SERIALIZED:
      return "MPI_THREAD_SERIALIZED";
    default:
      return "MPI_THREAD_MULTIPLE";
  }
}

std::optional<int> number(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 0 || value > 1 << 20) {
    throw ConfigError(std::string(name) + "=\"" + text + "\" is no rank or number of ranks");
  }
  return static_cast<int>(value);
}

// Only where the launcher does not tell: one more collective at the start.
Local ask_local() {
  Local local;
  MPI_Comm host = MPI_COMM_NULL;
  check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host),
        "MPI_Comm_split_type");
  check(MPI_Comm_rank(host, &local.rank), "MPI_Comm_rank");
  check(MPI_Comm_size(host, &local.size), "MPI_Comm_size");
  check(MPI_Comm_free(&host), "MPI_Comm_free");
  return local;
}

Local find_local() {
  const auto rank = number("OMPI_COMM_WORLD_LOCAL_RANK");
  const auto size = number("OMPI_COMM_WORLD_LOCAL_SIZE");
  return rank && size ? Local{*rank, *size} : ask_local();
}

std::atomic<int (*)(int)> leaver = nullptr;

extern "C" void end_of_process(int status, void*) {
  const auto leave = leaver.exchange(nullptr);
  const int code = leave != nullptr ? leave(status) : 0;
  int over = 0;
  if (code != 0 && MPI_Finalized(&over) == MPI_SUCCESS && over == 0) MPI_Abort(MPI_COMM_WORLD, code);
}

}  // namespace

Started start_mpi() {
  if (finalized()) {
    throw ConfigError(
        "MPI has ended in this process and cannot be started a second time; keep one context for the whole "
        "run");
  }
  Started started;
  int provided = MPI_THREAD_SINGLE;
  if (initialized()) {
    check(MPI_Query_thread(&provided), "MPI_Query_thread");
    if (provided < MPI_THREAD_SERIALIZED) {
      throw ConfigError(
          std::string("the program has started MPI with ") + level_name(provided) +
          ": start it by MPI_Init_thread with MPI_THREAD_MULTIPLE (or MPI_THREAD_SERIALIZED, if the "
          "program itself makes no MPI calls while this library works), or leave the start to this "
          "library");
    }
  } else {
    // Ranks that share cores must not spin on each other's time; the user's own setting wins.
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
    started.here = true;
    if (provided < MPI_THREAD_SERIALIZED) {
      throw ConfigError(
          std::string("this MPI offers ") + level_name(provided) +
          ", but MPI_THREAD_SERIALIZED is needed; use one built with thread support, or the backend tcp");
    }
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }
  started.local = find_local();
#ifdef MPIX_CUDA_AWARE_SUPPORT
  started.cuda_aware = MPIX_Query_cuda_support() == 1;
#endif
  return started;
}

void end_mpi(const Started& started) {
  if (started.here) check(MPI_Finalize(), "MPI_Finalize");
}

void at_exit(int (*leave)(int status)) {
  static const bool registered = [] { return on_exit(end_of_process, nullptr) == 0; }();
  if (!registered) throw CommunicationError("the system has no room for one more exit handler");
  leaver = leave;
}

}  // namespace acp::mpi
