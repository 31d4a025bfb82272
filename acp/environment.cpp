// Reads launchers' variables, the affinity mask and the control group's quota.
#include "acp/environment.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "comm/error.h"

namespace acp {

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') return std::nullopt;
    return std::string(value);
  };
}

std::optional<int> integer_variable(const Environment& environment, const std::string& name) {
  const auto text = environment(name);
  if (!text) return std::nullopt;
  char* end = nullptr;
  const long value = std::strtol(text->c_str(), &end, 10);
  if (*end != '\0' || value < 0 || value > 1'000'000) {
    throw ConfigError("environment variable " + name + "=\"" + *text + "\" is not a whole number from 0");
  }
  return static_cast<int>(value);
}

std::string choose_backend(const std::string& asked, const Environment& environment) {
  std::string name = asked.empty() || asked == "auto" ? environment("ACP_BACKEND").value_or("auto") : asked;
  if (name == "auto") {
    if (environment("RANK") && environment("WORLD_SIZE")) return "tcp";
    for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
      if (environment(variable)) return "mpi";
    }
    return "local";
  }
  constexpr std::array known{"local", "mpi", "nccl", "tcp"};
  if (std::ranges::find(known, name) == known.end()) {
    throw ConfigError("unknown backend \"" + name + "\"; known: auto, local, mpi, nccl, tcp");
  }
  return name;
}

std::optional<LocalPlace> local_place(const Environment& environment) {
  constexpr std::array<std::pair<const char*, const char*>, 3> names{
      {{"LOCAL_RANK", "LOCAL_WORLD_SIZE"},
       {"OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
       {"MPI_LOCALRANKID", "MPI_LOCALNRANKS"}}};
  for (const auto& [rank_name, size_name] : names) {
    const auto rank = integer_variable(environment, rank_name);
    const auto size = integer_variable(environment, size_name);
    if (rank && size && *size > 0) return LocalPlace{*rank, *size};
  }
  return std::nullopt;
}

int usable_cores() {
  cpu_set_t set;
  int cores = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
  std::ifstream quota("/sys/fs/cgroup/cpu.max");  // "max 100000" or "150000 100000"
  std::string limit;
  double period = 0;
  if (quota >> limit >> period && limit != "max" && period > 0) {
    const double share = std::strtod(limit.c_str(), nullptr) / period;
    if (share > 0) cores = std::min(cores, std::max(1, static_cast<int>(std::floor(share))));
  }
  return std::max(1, cores);
}

}  // namespace acp
