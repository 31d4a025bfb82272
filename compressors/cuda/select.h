// Exact top-k without a word to the host: a threshold just below the k-th magnitude is read off a sample, one
// pass over all numbers collects what reaches it, digit counts find the k-th magnitude among these, and the
// choice is written in order. If the sample was unlucky, or many numbers are equal, the later steps look at
// all numbers instead: they ask for that on the device.
//
// Numbers are cut into chunks. A chunk's candidates are one run, in order; where the runs lie depends on
// timing, the result does not.
#pragma once

#include "compressors/cuda/select_bodies.h"

namespace acp::device {

inline std::int64_t chunks_of(std::int64_t count) {
  return divide_up(count, chunk);
}
inline std::int64_t room_of(const TopK& part) {
  return least_of(part.count, 2 * part.k + part.count / 64 + chunk);
}

inline std::size_t top_k_scratch(const TopK& part) {
  const auto words =
      static_cast<std::int64_t>(sizeof(Found) / 4) + classes + 4 * chunks_of(part.count) + 2 * room_of(part);
  return static_cast<std::size_t>(divide_up(words, 4) * 16);
}
inline std::size_t top_k_scratch(std::span<const TopK> parts) {
  std::size_t bytes = 0;
  for (const auto& part : parts) bytes += top_k_scratch(part);
  return bytes;
}

inline Selecting selecting(const TopK& part, std::byte* scratch) {
  Selecting result{};
  result.what = part;
  result.room = room_of(part);
  auto* word = reinterpret_cast<std::uint32_t*>(scratch);
  const auto take = [&](std::int64_t count) {
    auto* const begin = word;
    word += count;
    return begin;
  };
  result.found = reinterpret_cast<Found*>(take(sizeof(Found) / 4));
  result.counts = take(classes);
  const auto chunks = chunks_of(part.count);
  result.starts = take(chunks);
  result.lengths = take(chunks);
  result.above = take(chunks);
  result.equal = take(chunks);
  result.indices = take(result.room);
  result.values = reinterpret_cast<float*>(take(result.room));
  return result;
}

template <class Launch>
void top_k(std::span<const TopK> parts, std::byte* scratch, const Launch& launch) {
  const auto once = [](const Selecting&) -> std::int64_t { return 1; };
  const auto by_chunk = [](const Selecting& item) { return chunks_of(item.what.count); };
  const auto by_stretch = [](const Selecting& item) {
    return divide_up(item.what.count, CountBody::stretch);
  };
  constexpr std::size_t at_once = Batch<Selecting>::capacity;
  for (std::size_t from = 0; from < parts.size(); from += at_once) {
    Selecting items[at_once];
    const auto count = least_of(at_once, parts.size() - from);
    for (std::size_t k = 0; k < count; ++k) {
      items[k] = selecting(parts[from + k], scratch);
      scratch += top_k_scratch(parts[from + k]);
    }
    const std::span<const Selecting> some(items, count);
    const auto go = [&](const auto& blocks_of, const auto& make) {
      in_batches(some, blocks_of,
                 [&](const Batch<Selecting>& batch, std::int64_t blocks) { launch(blocks, make(batch)); });
    };
    go(once, [](const Batch<Selecting>& batch) { return SampleBody{batch}; });
    go(by_chunk, [](const Batch<Selecting>& batch) { return CollectBody{batch}; });
    for (int round = 0; round < 3; ++round) {
      go(by_stretch, [&](const Batch<Selecting>& batch) { return CountBody{batch, round}; });
      go(once, [&](const Batch<Selecting>& batch) { return PickBody{batch, round}; });
    }
    go(by_chunk, [](const Batch<Selecting>& batch) { return RankBody{batch}; });
    go(once, [](const Batch<Selecting>& batch) { return OffsetBody{batch}; });
    go(by_chunk, [](const Batch<Selecting>& batch) { return WriteBody{batch}; });
  }
}

}  // namespace acp::device
