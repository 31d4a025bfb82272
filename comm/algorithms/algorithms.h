// The collectives over point-to-point messages; docs/algorithms.md has steps and bytes of each.
#pragma once

#include "comm/collective.h"
#include "comm/transport.h"

namespace acp {

// Performs `op` over `transport`, blocking. Every rank calls it with the same operation.
void perform(const Collective& op, Transport& transport);

// Elements that a ring sends and adds at once; tests make it small to reach the long path with few numbers.
void set_segment_bytes(std::size_t bytes);

}  // namespace acp
