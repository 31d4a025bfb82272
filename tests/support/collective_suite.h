// One suite for every backend: each collective, type, reduction, size and algorithm against sums known
// beforehand.
#pragma once

#include "comm/communicator.h"

namespace acp::test {

// Throws std::runtime_error that says what is wrong, on the rank that saw it. Every rank calls it.
void run_collective_suite(Communicator& channel);

// The same for one algorithm and small sizes: for very short segments.
void run_short_suite(Communicator& channel);

// Two channels used in opposite orders by different ranks, at the same time.
void run_channel_suite(Communicator& channel);

}  // namespace acp::test
