// The ring's arithmetic, played through without threads: who holds what after each step.
#include "comm/algorithms/ring_plan.h"

#include <set>

#include "tests/catch.h"

using namespace acp;

namespace {

using Steps = std::vector<std::vector<RingStep>>;  // [rank][step]

// contributions[rank][chunk]: whose numbers are in that rank's copy of the chunk.
using Contributions = std::vector<std::vector<std::multiset<int>>>;

std::size_t chunk_index(const std::vector<Range>& chunks, Range range) {
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    if (chunks[i] == range) return i;
  }
  FAIL("a step moves something that is no chunk");
  return 0;
}

void play(const std::vector<Range>& chunks, const Steps& steps, Contributions& held) {
  const std::size_t size = steps.size();
  for (std::size_t s = 0; s < steps[0].size(); ++s) {
    const Contributions before = held;
    for (std::size_t r = 0; r < size; ++r) {
      const std::size_t left = (r + size - 1) % size;
      const RingStep& step = steps[r][s];
      REQUIRE(step.receive == steps[left][s].send);
      if (s + 1 < steps[r].size()) CHECK(step.receive == steps[r][s + 1].send);
      const std::size_t chunk = chunk_index(chunks, step.receive);
      if (!step.reduce) held[r][chunk].clear();
      held[r][chunk].insert(before[left][chunk].begin(), before[left][chunk].end());
    }
  }
}

// Distinct chunks, so that a chunk can be told by its range.
std::vector<Range> distinct(int size) {
  std::vector<std::int64_t> counts;
  for (int i = 0; i < size; ++i) counts.push_back(i + 1);
  return consecutive_chunks(counts);
}

Contributions own(int size) {
  Contributions held(static_cast<std::size_t>(size),
                     std::vector<std::multiset<int>>(static_cast<std::size_t>(size)));
  for (int r = 0; r < size; ++r) {
    for (auto& chunk : held[static_cast<std::size_t>(r)]) chunk.insert(r);
  }
  return held;
}

std::multiset<int> everybody(int size) {
  std::multiset<int> all;
  for (int r = 0; r < size; ++r) all.insert(r);
  return all;
}

}  // namespace

TEST_CASE("chunks cover everything and differ by at most one element", "[unit][ring]") {
  for (int size = 1; size < 10; ++size) {
    for (const std::int64_t numel : {0, 1, 2, 7, 8, 9, 1000}) {
      const auto chunks = equal_chunks(numel, size);
      REQUIRE(chunks.size() == static_cast<std::size_t>(size));
      std::int64_t next = 0;
      for (const Range& chunk : chunks) {
        CHECK(chunk.begin == next);
        CHECK(chunk.count >= numel / size);
        CHECK(chunk.count <= numel / size + 1);
        next += chunk.count;
      }
      CHECK(next == numel);
    }
  }
  const bool same = consecutive_chunks({2, 0, 3}) == std::vector<Range>{{0, 2}, {2, 0}, {2, 3}};
  CHECK(same);
}

TEST_CASE("reduce-scatter leaves rank r with chunk r of everybody, once", "[unit][ring]") {
  const int size = GENERATE(2, 3, 4, 5, 8);
  const auto chunks = distinct(size);
  Steps steps;
  for (int r = 0; r < size; ++r) steps.push_back(plan_reduce_scatter(chunks, r));
  CHECK(steps[0].size() == static_cast<std::size_t>(size - 1));
  Contributions held = own(size);
  play(chunks, steps, held);
  for (std::size_t r = 0; r < held.size(); ++r) {
    CHECK(held[r][r] == everybody(size));
    for (std::size_t s = 0; s < steps[r].size(); ++s) {
      CHECK(steps[r][s].reduce);
      CHECK(steps[r][s].final == (s + 1 == steps[r].size()));
    }
    CHECK(steps[r].back().receive == chunks[r]);
  }
}

TEST_CASE("all-gather spreads chunk r of rank r", "[unit][ring]") {
  const int size = GENERATE(2, 3, 4, 5, 8);
  const auto chunks = distinct(size);
  Steps steps;
  Contributions held(static_cast<std::size_t>(size),
                     std::vector<std::multiset<int>>(static_cast<std::size_t>(size)));
  for (int r = 0; r < size; ++r) {
    steps.push_back(plan_all_gather(chunks, r));
    held[static_cast<std::size_t>(r)][static_cast<std::size_t>(r)] = {r};
  }
  play(chunks, steps, held);
  for (const auto& rank : held) {
    for (int chunk = 0; chunk < size; ++chunk)
      CHECK(rank[static_cast<std::size_t>(chunk)] == std::multiset<int>{chunk});
  }
}

TEST_CASE("all-reduce gives every chunk of everybody to all in 2 (n - 1) steps", "[unit][ring]") {
  const int size = GENERATE(1, 2, 3, 4, 5, 8);
  const auto chunks = distinct(size);
  Steps steps;
  for (int r = 0; r < size; ++r) steps.push_back(plan_all_reduce(chunks, r));
  CHECK(steps[0].size() == static_cast<std::size_t>(2 * (size - 1)));
  Contributions held = own(size);
  play(chunks, steps, held);
  for (const auto& rank : held) {
    for (const auto& chunk : rank) CHECK(chunk == everybody(size));
  }
}

TEST_CASE("segments cover a chunk in order, none longer than asked", "[unit][ring]") {
  for (const std::size_t segment_bytes : {1, 4, 10, 64, 1 << 20}) {
    for (const std::int64_t numel : {0, 1, 5, 64, 1001}) {
      const auto chunks = equal_chunks(numel, 3);
      const std::int64_t segments = segments_per_chunk(chunks, 4, segment_bytes);
      REQUIRE(segments >= 1);
      for (const Range& chunk : chunks) {
        std::int64_t next = chunk.begin;
        for (std::int64_t k = 0; k < segments; ++k) {
          const Range segment = segment_of(chunk, k, segments);
          CHECK(segment.begin == next);
          CHECK(segment.count * 4 <= std::max<std::int64_t>(4, static_cast<std::int64_t>(segment_bytes)));
          CHECK(segment.count <= segment_of(chunk, 0, segments).count);
          next += segment.count;
        }
        CHECK(next == chunk.begin + chunk.count);
      }
    }
  }
  // No overflow where the number of elements is large.
  const Range huge = equal_chunks(std::int64_t{1} << 60, 1000)[999];
  CHECK(huge.begin + huge.count == std::int64_t{1} << 60);
}
