// Reads launchers' variables, the affinity mask and the control groups' quotas.
#include "acp/environment.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <utility>
#include <vector>

#include "comm/error.h"
#include "compressors/spec.h"

namespace acp {

namespace {

namespace fs = std::filesystem;

// Version 2: "max 100000" or "150000 100000".
std::optional<double> quota_v2(const fs::path& group) {
  std::ifstream file(group / "cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return std::nullopt;
  const double cores = std::strtod(quota.c_str(), nullptr) / period;
  return cores > 0 ? std::optional(cores) : std::nullopt;
}

// Version 1: two files; a quota of -1 is none.
std::optional<double> quota_v1(const fs::path& group) {
  std::ifstream quota_file(group / "cpu.cfs_quota_us"), period_file(group / "cpu.cfs_period_us");
  double quota = 0, period = 0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

// The controllers of a line of version 1, "4:cpu,cpuacct:/path", include cpu.
bool has_cpu(std::string_view controllers) {
  while (!controllers.empty()) {
    const auto comma = controllers.find(',');
    if (controllers.substr(0, comma) == "cpu") return true;
    if (comma == std::string_view::npos) return false;
    controllers.remove_prefix(comma + 1);
  }
  return false;
}

}  // namespace

Variables process_variables() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') return std::nullopt;
    return std::string(value);
  };
}

std::optional<int> integer_variable(const Variables& environment, const std::string& name) {
  const auto text = environment(name);
  if (!text) return std::nullopt;
  int value = -1;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value < 0) {
    throw ConfigError("environment variable " + name + "=\"" + *text + "\" is not a whole number from 0");
  }
  return value;
}

std::string choose_backend(const std::string& asked, const Variables& environment) {
  const bool by_variable = asked.empty() || asked == "auto";
  std::string name = by_variable ? environment("ACP_BACKEND").value_or("auto") : asked;
  if (name == "auto") {
    if (environment("RANK") && environment("WORLD_SIZE")) return "tcp";
    for (const char* variable : {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
      if (environment(variable)) return "mpi";
    }
    return "local";
  }
  const std::array<std::string, 5> known{"auto", "local", "mpi", "nccl", "tcp"};
  if (std::ranges::find(known, name) == known.end()) {
    const std::string near = nearest(name, known);
    throw ConfigError(std::string(by_variable ? "ACP_BACKEND: " : "") + "unknown backend \"" + name + "\"" +
                      (near.empty() ? "" : ", did you mean \"" + near + "\"?") +
                      "; known: auto, local, mpi, nccl, tcp");
  }
  return name;
}

std::optional<LocalPlace> local_place(const Variables& environment) {
  constexpr std::array<std::pair<const char*, const char*>, 3> names{
      {{"LOCAL_RANK", "LOCAL_WORLD_SIZE"},
       {"OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
       {"MPI_LOCALRANKID", "MPI_LOCALNRANKS"}}};
  for (const auto& [rank_name, size_name] : names) {
    const auto rank = integer_variable(environment, rank_name);
    const auto size = integer_variable(environment, size_name);
    if (!rank || !size) continue;
    if (*rank >= *size) {
      throw ConfigError("environment: " + std::string(rank_name) + "=" + std::to_string(*rank) +
                        " is not below " + size_name + "=" + std::to_string(*size));
    }
    return LocalPlace{*rank, *size};
  }
  return std::nullopt;
}

std::optional<double> quota_cores(const fs::path& root, std::istream& membership) {
  std::optional<double> least;
  const auto walk = [&](const fs::path& hierarchy, const std::string& group, auto quota) {
    // Upwards from the group: every level limits, and in a container the lower ones may not be visible.
    for (fs::path path = fs::path(group).relative_path();; path = path.parent_path()) {
      if (const auto cores = quota(hierarchy / path)) least = std::min(least.value_or(*cores), *cores);
      if (path.empty()) return;
    }
  };
  for (std::string line; std::getline(membership, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      walk(root, group, quota_v2);
    } else if (has_cpu(controllers)) {
      walk(root / controllers, group, quota_v1);
      if (controllers != "cpu") walk(root / "cpu", group, quota_v1);
    }
  }
  return least;
}

int usable_cores() {
  int cores = 0;
  // The kernel refuses a set that is smaller than its own.
  for (int capacity = 1024; cores == 0 && capacity <= 1024 * 1024; capacity *= 4) {
    std::vector<cpu_set_t> set(static_cast<std::size_t>(capacity) / CPU_SETSIZE);
    const std::size_t bytes = set.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, set.data()) == 0) cores = CPU_COUNT_S(bytes, set.data());
  }
  std::ifstream membership("/proc/self/cgroup");
  const auto quota = quota_cores("/sys/fs/cgroup", membership);
  if (quota) cores = std::min(cores, static_cast<int>(std::floor(*quota)));
  return std::max(1, cores);
}

}  // namespace acp
