// What the environment says about this process: backend, place among the ranks of its host, usable cores.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace acp {

// Looks up a variable; tests pass their own.
using Environment = std::function<std::optional<std::string>(const std::string&)>;
Environment process_environment();  // an empty value counts as unset

// `asked` ("" or "auto" = not asked), else ACP_BACKEND, else RANK and WORLD_SIZE -> "tcp", else a launcher's
// variables (OMPI_COMM_WORLD_*, PMIX_RANK, PMI_RANK) -> "mpi", else "local" (one rank). ConfigError names an
// unknown backend and the known ones.
std::string choose_backend(const std::string& asked, const Environment& environment);

// Rank and number of ranks on this host, where a launcher says so.
struct LocalPlace {
  int rank = 0, size = 1;
};
std::optional<LocalPlace> local_place(const Environment& environment);

// An integer variable; ConfigError if it is set and is none.
std::optional<int> integer_variable(const Environment& environment, const std::string& name);

// Cores that this process may use: its affinity mask, and the quota of its control group.
int usable_cores();

}  // namespace acp
