// What kernel bodies are written against, so that the host can run them, too.
//
// A body is a struct with its arguments as members, a type Shared, and
//   template <class Block> void operator()(Block& block, Shared& shared) const
// whose work is a row of phases: block.each(f) calls f(t) for every thread t of the block and ends with a
// barrier. Within a phase threads only write what no other thread of it touches (or by add() and raise()), so
// any order of the threads gives the same result: the host form runs them one by one, forwards or backwards.
// Nothing may stay in a thread's variables from phase to phase; what stays is in Shared. What decides how the
// phases go on is read from Shared between two phases, and is not written again before another phase has
// passed.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include "compressors/host_device.h"

namespace acp::device {

inline constexpr int threads = 256;  // of a block

// A body's arguments for several pieces of work travel with its launch, which takes 4 KB: no table is
// uploaded.
template <class Item>
struct Batch {
  static constexpr int capacity = static_cast<int>(3584 / (sizeof(Item) + sizeof(std::int64_t)));
  Item items[capacity];
  std::int64_t first[capacity];  // block of each
  int count;

  // Which item the block works on.
  ACP_HOST_DEVICE int find(std::int64_t block) const {
    int low = 0, high = count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (first[middle] <= block) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

// Calls work(batch, blocks) until all items have had their blocks_of(item) blocks; items of none are left
// out.
template <class Item, class BlocksOf, class Work>
void in_batches(std::span<const Item> items, const BlocksOf& blocks_of, const Work& work) {
  static_assert(std::is_trivially_copyable_v<Item>);
  for (std::size_t k = 0; k < items.size();) {
    Batch<Item> batch{};
    std::int64_t blocks = 0;
    for (; k < items.size() && batch.count < Batch<Item>::capacity; ++k) {
      const std::int64_t own = blocks_of(items[k]);
      if (own == 0) continue;
      batch.items[batch.count] = items[k];
      batch.first[batch.count++] = blocks;
      blocks += own;
    }
    if (blocks > 0) work(batch, blocks);
  }
}

constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

template <class T>
ACP_HOST_DEVICE T least_of(T a, T b) {
  return b < a ? b : a;
}
template <class T>
ACP_HOST_DEVICE T most_of(T a, T b) {
  return a < b ? b : a;
}

struct Nothing {};  // Shared of bodies without

// a[t] = a[0] + ... + a[t] of `threads` numbers; b is room for as many.
template <class Block, class T>
ACP_HOST_DEVICE void sum_up(Block& block, T* a, T* b) {
  static_assert(threads == 256, "eight steps: the result ends where it began");
  for (int step = 1; step < threads; step *= 2) {
    block.each([&](int t) { b[t] = a[t] + (t >= step ? a[t - step] : T(0)); });
    T* const other = a;
    a = b;
    b = other;
  }
}

// a[0] = the sum of `threads` numbers, pair by pair.
template <class Block, class T>
ACP_HOST_DEVICE void fold(Block& block, T* a) {
  for (int half = threads / 2; half > 0; half /= 2) {
    block.each([&](int t) {
      if (t < half) a[t] += a[t + half];
    });
  }
}

}  // namespace acp::device
