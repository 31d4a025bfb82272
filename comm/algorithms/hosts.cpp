// Groups of ranks by host.
#include "comm/algorithms/hosts.h"

#include <algorithm>
#include <map>
#include <string>

namespace acp {

int Hosts::total() const {
  int sum = 0;
  for (const auto& on_one : ranks) sum += static_cast<int>(on_one.size());
  return sum;
}

Hosts group_hosts(std::span<const int> host_of, int rank, int size) {
  Hosts hosts;
  std::map<int, std::size_t> index;
  for (int r = 0; r < size; ++r) {
    const int name = host_of.empty() ? r : host_of[static_cast<std::size_t>(r)];
    const auto [found, first] = index.try_emplace(name, hosts.ranks.size());
    if (first) hosts.ranks.emplace_back();
    auto& ranks = hosts.ranks[found->second];
    if (r == rank) {
      hosts.host = static_cast<int>(found->second);
      hosts.place = static_cast<int>(ranks.size());
    }
    ranks.push_back(r);
  }
  const auto smallest = std::ranges::min_element(hosts.ranks, {}, [](const auto& r) { return r.size(); });
  hosts.columns = static_cast<int>(smallest->size());
  return hosts;
}

std::vector<int> number_hosts(std::span<const std::string> names) {
  std::map<std::string, int> numbers;
  std::vector<int> result;
  for (const std::string& name : names) {
    result.push_back(numbers.try_emplace(name, static_cast<int>(numbers.size())).first->second);
  }
  return result;
}

}  // namespace acp
