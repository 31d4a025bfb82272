// What a message costs on this network, measured or given, the same on all ranks.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "comm/communicator.h"

namespace acp {

// What a step costs in which every rank sends to one neighbour while as much arrives from another.
struct LinkCost {
  double latency = 20e-6;           // seconds, of a short message
  double seconds_per_byte = 1e-10;  // of one direction
  // How much of the latency the time on the wire may hide behind: 0 where they follow each other (Hockney's
  // model), 1 where a step takes the longer of the two, as with a buffer on the way that swallows a short
  // message at once.
  double hidden = 0;
  // Where ranks share hosts, of the two levels; 0 where they do not, or when nothing is known.
  double local_seconds_per_byte = 0;  // every rank sends to another one of its host
  double cross_seconds_per_byte = 0;  // so many ranks as the smallest host has send to the next host at once
  // By rank, the number of its host, as the ranks have told each other; empty: each has one of its own.
  std::vector<int> host_of;
  bool operator==(const LinkCost&) const = default;

  // Of a step with messages of `bytes`.
  double step(double bytes) const;
};

// "latency_us=30,gbps=0.95", and where ranks share hosts also "local_gbps=20" (without: as fast as need be).
// ConfigError says which part is wrong.
LinkCost parse_link_cost(std::string_view text);

// Measures in some milliseconds (on links above some Mbit/s): short all-reduces, then messages round the
// ring, and on each of the two levels where ranks share hosts. `host_of`: by rank, the number of its host.
// Collective; every rank returns rank 0's figures, rounded to steps of a fifth so that two runs mostly agree.
LinkCost measure_link_cost(Communicator& channel, std::span<const int> host_of);

// What rank 0 was given, else what they measure together; with `host_of`. Collective.
LinkCost agree_link_cost(Communicator& channel, const std::optional<LinkCost>& given,
                         std::span<const int> host_of = {});

}  // namespace acp
