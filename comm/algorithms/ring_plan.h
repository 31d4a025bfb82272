// Which elements travel in which step of a ring: arithmetic alone, so that it can be tested without threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace acp {

struct Range {
  std::int64_t begin = 0, count = 0;
  bool operator==(const Range&) const = default;
};

// In each step a rank sends one chunk to its right neighbour and receives another from its left one. What it
// receives in a step it sends in the next, so a segment can be passed on while the rest of its chunk still
// arrives.
struct RingStep {
  Range send, receive;
  bool reduce = false;  // the received chunk is added to this rank's; else it replaces it
  bool final = false;   // after it this rank's part of the reduction is complete
};

// `numel` elements in `size` chunks that differ by at most one element.
std::vector<Range> equal_chunks(std::int64_t numel, int size);

// Consecutive chunks of the given sizes.
std::vector<Range> consecutive_chunks(const std::vector<std::int64_t>& counts);

// size - 1 steps, after which rank r holds the reduction of chunk r.
std::vector<RingStep> plan_reduce_scatter(const std::vector<Range>& chunks, int rank);

// size - 1 steps, before which rank r holds chunk r and after which it holds all.
std::vector<RingStep> plan_all_gather(const std::vector<Range>& chunks, int rank);

// One after the other: 2 (size - 1) steps.
std::vector<RingStep> plan_all_reduce(const std::vector<Range>& chunks, int rank);

// Segments per chunk, the same for all chunks, such that none is longer than `segment_bytes` (but by one
// element).
std::int64_t segments_per_chunk(const std::vector<Range>& chunks, std::size_t element_bytes,
                                std::size_t segment_bytes);

// Segment k of `segments` of a chunk; they differ by at most one element.
Range segment_of(Range chunk, std::int64_t k, std::int64_t segments);

}  // namespace acp
