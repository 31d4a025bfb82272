// Chunks, steps and segments of the ring.
#include "comm/algorithms/ring_plan.h"

#include <algorithm>

namespace acp {

namespace {

const Range& chunk_at(const std::vector<Range>& chunks, int index) {
  const int size = static_cast<int>(chunks.size());
  return chunks[static_cast<std::size_t>(((index % size) + size) % size)];
}

// Part i of n parts of [0, count) that differ by at most one; never multiplies count by n.
Range part(std::int64_t count, std::int64_t i, std::int64_t n) {
  const std::int64_t base = count / n, longer = count % n;
  return {base * i + std::min(i, longer), base + (i < longer ? 1 : 0)};
}

}  // namespace

std::vector<Range> equal_chunks(std::int64_t numel, int size) {
  std::vector<Range> chunks;
  for (int i = 0; i < size; ++i) chunks.push_back(part(numel, i, size));
  return chunks;
}

std::vector<Range> consecutive_chunks(const std::vector<std::int64_t>& counts) {
  std::vector<Range> chunks;
  std::int64_t begin = 0;
  for (const std::int64_t count : counts) {
    chunks.push_back({begin, count});
    begin += count;
  }
  return chunks;
}

std::vector<RingStep> plan_reduce_scatter(const std::vector<Range>& chunks, int rank) {
  const int size = static_cast<int>(chunks.size());
  std::vector<RingStep> steps;
  for (int s = 0; s < size - 1; ++s) {
    steps.push_back({chunk_at(chunks, rank - 1 - s), chunk_at(chunks, rank - 2 - s), true, s == size - 2});
  }
  return steps;
}

std::vector<RingStep> plan_all_gather(const std::vector<Range>& chunks, int rank) {
  const int size = static_cast<int>(chunks.size());
  std::vector<RingStep> steps;
  for (int s = 0; s < size - 1; ++s) {
    steps.push_back({chunk_at(chunks, rank - s), chunk_at(chunks, rank - 1 - s), false, false});
  }
  return steps;
}

std::vector<RingStep> plan_all_reduce(const std::vector<Range>& chunks, int rank) {
  auto steps = plan_reduce_scatter(chunks, rank);
  const auto gather = plan_all_gather(chunks, rank);
  steps.insert(steps.end(), gather.begin(), gather.end());
  return steps;
}

std::int64_t segments_per_chunk(const std::vector<Range>& chunks, std::size_t element_bytes,
                                std::size_t segment_bytes) {
  std::int64_t longest = 0;
  for (const Range& chunk : chunks) longest = std::max(longest, chunk.count);
  const auto elements = static_cast<std::int64_t>(std::max<std::size_t>(1, segment_bytes / element_bytes));
  return std::max<std::int64_t>(1, (longest + elements - 1) / elements);
}

Range segment_of(Range chunk, std::int64_t k, std::int64_t segments) {
  const Range inside = part(chunk.count, k, segments);
  return {chunk.begin + inside.begin, inside.count};
}

}  // namespace acp
