// What the environment says about this process: backend, place among the ranks of its host, usable cores.
#pragma once

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <optional>
#include <string>

namespace acp {

// Looks up a variable; tests pass their own. An empty value counts as unset.
using Variables = std::function<std::optional<std::string>(const std::string&)>;
Variables process_variables();

// `asked` (InitOptions; "" or "auto" = not asked), else ACP_BACKEND, else RANK and WORLD_SIZE -> "tcp", else
// a launcher's variables (OMPI_COMM_WORLD_*, PMIX_RANK, PMI_RANK) -> "mpi", else "local" (one rank).
// ConfigError lists the known backends and the nearest one.
std::string choose_backend(const std::string& asked, const Variables& environment);

// Rank and number of ranks on this host.
struct LocalPlace {
  int rank = 0, size = 1;
};

// Where a launcher says it: LOCAL_RANK and LOCAL_WORLD_SIZE, or Open MPI's or MPICH's variables. ConfigError
// names a variable that is no number, or a rank that is not below its size.
std::optional<LocalPlace> local_place(const Variables& environment);

// A whole number from 0; ConfigError if the variable is set and is none.
std::optional<int> integer_variable(const Variables& environment, const std::string& name);

// Cores that this process may use, at least 1: its affinity mask, and the quota of its control groups,
// rounded down.
int usable_cores();

// The smallest CPU quota, in cores, of the control groups in `membership` (the lines of /proc/self/cgroup)
// and of those above them, in the hierarchy mounted at `root`; versions 1 and 2. Empty: no limit.
std::optional<double> quota_cores(const std::filesystem::path& root, std::istream& membership);

}  // namespace acp
