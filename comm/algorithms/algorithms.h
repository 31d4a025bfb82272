// The collectives over point-to-point messages; docs/algorithms.md has steps and bytes of each.
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "comm/collective.h"
#include "comm/transport.h"

namespace acp {

// Sizes at which the algorithms change their ways; the same on all ranks. Tests make them small, so that a
// few numbers reach the long path.
struct Tuning {
  std::size_t segment_bytes = 512 * 1024;  // a long message travels in pieces of about this size
  // Up to here few messages count more than few bytes (choice.h): in all-reduces, in gathers and broadcasts.
  std::size_t small_bytes = 16 * 1024, direct_bytes = 16 * 1024;
  // All-reduces beyond small_bytes: up to here by halving, from `hierarchy_bytes` on by hierarchy, else by
  // ring.
  std::size_t halving_bytes = 0;
  std::size_t hierarchy_bytes = std::numeric_limits<std::size_t>::max();
  std::vector<int> host_of;  // by rank, the number of its host; empty: each has one of its own
};

// Memory for what arrives before it is added; grows to what an operation needs and is kept for the next one.
class Workspace {
 public:
  // At least `n` bytes of undefined content, valid until the next call.
  std::span<std::byte> bytes(std::size_t n);

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t size_ = 0;
};

// ConfigError for what one rank can see to be wrong once it knows rank and size: counts, sizes, types, ranks
// out of range, input and output that overlap.
void check_shape(const Collective& op, int rank, int size);
// That, and tensors that are not in the host's memory.
void check(const Collective& op, int rank, int size);

// Performs a checked `op`, blocking; every rank calls it with the same operation. Takes the transport's own
// collective where `op.algorithm` says so. Throws what the transport throws; then neither tensors nor
// workspace may be freed before the transport.
void perform(const Collective& op, Transport& transport, Workspace& workspace, const Tuning& tuning);

// 15 bits from all that must be the same on every rank; two ranks that do different things have different
// tags but for chance.
int tag_of(const Collective& op);

}  // namespace acp
