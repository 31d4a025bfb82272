// Which ranks share a host, as the two-level algorithms see it.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace acp {

// The ranks of each host, ascending; hosts in the order of their first rank.
struct Hosts {
  std::vector<std::vector<int>> ranks;
  int host = 0;     // of this rank
  int place = 0;    // of this rank among those of its host
  int columns = 1;  // ranks of the smallest host: so many of each host work across hosts

  const std::vector<int>& own() const { return ranks[static_cast<std::size_t>(host)]; }
  int count() const { return static_cast<int>(ranks.size()); }
  bool shared() const { return count() < total(); }
  int total() const;
};

// From the number of each rank's host. Empty: every rank has one of its own.
Hosts group_hosts(std::span<const int> host_of, int rank, int size);

// Numbers for names: the same for the same name, in the order of first appearance.
std::vector<int> number_hosts(std::span<const std::string> names);

}  // namespace acp
