// One suite for every backend: collectives against results that each rank computes by itself.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace acp::test {

// Everything below is called by all ranks alike, works for any number of ranks, and throws std::runtime_error
// with rank, operation and first wrong element on the rank that saw it. (Catch2's macros are not for
// threads.)

// One collective with inputs derived from rank and index, and the check of its result.
struct Spec {
  Collective::Kind kind = Collective::Kind::all_reduce;
  at::ScalarType type = at::kFloat;
  ReduceOp op = ReduceOp::sum;
  Algorithm algorithm = Algorithm::automatic;
  std::int64_t numel =
      1;  // of a reduction's tensor; of a piece for the others, which some kinds vary by rank
  int root = 0;
};
std::string to_string(const Spec& spec);

struct Case {
  Collective op;
  std::function<void()> verify;  // once `op` has been performed
};
Case make_case(const Communicator& c, const Spec& spec);

// Starts it, waits, verifies.
void check_collective(Communicator& c, const Spec& spec);

// Every kind x type x reduction x size for one algorithm.
void check_all(Communicator& c, Algorithm algorithm, const std::vector<std::int64_t>& sizes);

// Sums of numbers that round: the same bits on all ranks and in each repetition, close to the sum in double;
// for half precision exactly the sum in float32 in rank order, rounded once.
void check_bits(Communicator& c, Algorithm algorithm, at::ScalarType type, std::int64_t numel);

// Channels of one communicator, used in different orders by different ranks.
void run_channel_suite(Communicator& c);

// `count` random collectives on three channels, many under way at once, with random delays on every rank; the
// ranks give the same seed.
void run_random_suite(Communicator& c, std::uint64_t seed, int count);

// All of the above with its usual sizes and algorithms.
void run_collective_suite(Communicator& c);

}  // namespace acp::test
