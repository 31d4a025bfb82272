// What a message costs on this network, measured or given, the same on all ranks.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "comm/communicator.h"

namespace acp {

// A step in which every rank sends `bytes` to one neighbour while as many arrive from another takes about
// latency + bytes * seconds_per_byte (Hockney's model).
struct LinkCost {
  double latency = 20e-6;           // seconds
  double seconds_per_byte = 1e-10;  // of one direction
  bool operator==(const LinkCost&) const = default;
};

// "latency_us=30,gbps=0.95". ConfigError says which part is wrong.
LinkCost parse_link_cost(std::string_view text);

// Measures in some milliseconds (on links above some Mbit/s): short messages round the ring, then longer ones
// until one takes long enough. Collective; every rank returns the figures of the slowest.
LinkCost measure_link_cost(Communicator& channel);

// What rank 0 was given, else what they measure together. Collective.
LinkCost agree_link_cost(Communicator& channel, const std::optional<LinkCost>& given);

// Up to this many bytes an all-reduce by recursive doubling, whose messages are fewer, is expected to take
// less time than a ring, whose bytes are fewer (docs/algorithms.md has the formula).
std::size_t doubling_limit(const LinkCost& cost, int ranks);

}  // namespace acp
