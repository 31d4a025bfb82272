// The steps of the selection that select.h describes, one body each.
#pragma once

#include "compressors/cuda/block.h"
#include "compressors/cuda/copy.h"
#include "compressors/cuda/kernels.h"
#include "compressors/cuda/numbers.h"

namespace acp::device {

inline constexpr std::int64_t chunk = 4096;
inline constexpr int sampled = 4096, classes = 2048;

// What the steps of one selection know.
struct Found {
  std::uint32_t least;          // candidates have at least this magnitude
  std::uint32_t total;          // how many there are, or would be
  std::uint32_t overflow;       // not 0: there was no room for all
  std::uint32_t prefix, known;  // digits of the k-th magnitude so far, and which bits they fill
  std::uint32_t left;  // which one it is among those that have these digits, from the largest, from 1
  std::uint32_t ties;  // how many of that magnitude are chosen
};

// One selection with its room. All of it is found in `scratch` by the number of elements and k.
struct Selecting {
  TopK what;
  Found* found;
  std::uint32_t* counts;                            // of a digit
  std::uint32_t *starts, *lengths, *above, *equal;  // by chunk
  std::uint32_t* indices;                           // of candidates
  float* values;
  std::int64_t room;  // candidates
};

// Whether the candidates cannot hold the choice.
ACP_HOST_DEVICE inline bool looks_at_all(const Found& found, std::int64_t k) {
  return found.overflow != 0 || found.total < k;
}

// Three digits of a magnitude, from the highest.
struct Digit {
  int shift, bits;
};
ACP_HOST_DEVICE inline Digit digit(int round) {
  return {round == 0 ? 20 : round == 1 ? 10 : 0, round == 0 ? 11 : 10};
}

// The class, from the highest, in which the number `left` lies, from 1; what is left inside it.
struct Picking {
  std::uint32_t groups[threads];
  std::uint32_t digit, left;
};
template <class Block>
ACP_HOST_DEVICE void pick(Block& block, const std::uint32_t* counts, std::uint32_t left, Picking& picking) {
  constexpr int width = classes / threads;
  block.each([&](int t) {
    std::uint32_t sum = 0;
    for (int j = 0; j < width; ++j) sum += counts[t * width + j];
    picking.groups[t] = sum;
  });
  block.each([&](int t) {
    if (t != 0) return;
    auto rest = left;
    int group = threads - 1;
    while (group > 0 && picking.groups[group] < rest) rest -= picking.groups[group--];
    int at = (group + 1) * width - 1;
    while (at > group * width && counts[at] < rest) rest -= counts[at--];
    picking.digit = static_cast<std::uint32_t>(at);
    picking.left = rest;
  });
}

// A block an item: the threshold of the candidates, and everything else set to its beginning.
struct SampleBody {
  struct Shared {
    std::uint32_t sample[sampled], counts[classes];
    Picking picking;
  };
  Batch<Selecting> batch;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const auto& item = batch.items[batch.find(block.index())];
    const std::int64_t n = item.what.count;
    const int size = static_cast<int>(least_of<std::int64_t>(n, sampled));
    const double step = static_cast<double>(n) / size;
    block.each([&](int t) {
      for (int i = t; i < size; i += threads) {
        // Places of a low-discrepancy sequence inside equal stretches: no period of the data can fool it.
        const double inside = static_cast<double>(static_cast<std::uint32_t>(i) * 0x9E3779B9U) * 0x1p-32;
        const auto at = n <= sampled ? i : static_cast<std::int64_t>((i + inside) * step);
        shared.sample[i] = magnitude(item.what.x[least_of(at, n - 1)]);
      }
      for (int i = t; i < classes; i += threads) item.counts[i] = 0;
    });
    // The sample's own k-th, and somewhat more of it where it stands for more numbers.
    const double expected = static_cast<double>(item.what.k) / step;
    const double wanted = n <= sampled ? expected : std::ceil(expected + 4 * std::sqrt(expected) + 2);
    std::uint32_t least = 0;
    if (wanted < size || n <= sampled) {
      auto left = static_cast<std::uint32_t>(wanted);
      std::uint32_t known = 0;
      for (int round = 0; round < 3; ++round) {
        const int shift = digit(round).shift;
        const std::uint32_t mask = (1U << digit(round).bits) - 1;
        block.each([&](int t) {
          for (int i = t; i < classes; i += threads) shared.counts[i] = 0;
        });
        block.each([&](int t) {
          for (int i = t; i < size; i += threads) {
            const auto m = shared.sample[i];
            if ((m & known) == least) block.add(&shared.counts[m >> shift & mask], 1U);
          }
        });
        pick(block, shared.counts, left, shared.picking);
        least |= shared.picking.digit << shift;
        left = shared.picking.left;
        known |= mask << shift;
      }
    }
    block.each([&](int t) {
      if (t == 0) *item.found = Found{least, 0, 0, 0, 0, static_cast<std::uint32_t>(item.what.k), 0};
    });
  }
};

// A block a chunk.
struct CollectBody {
  static constexpr int fours = static_cast<int>(chunk / 4), each = fours / threads;
  struct Shared {
    std::uint8_t masks[fours];
    std::uint32_t sums[threads], other[threads];
    std::uint32_t start;
  };
  Batch<Selecting> batch;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const int k = batch.find(block.index());
    const auto& item = batch.items[k];
    const std::int64_t number = block.index() - batch.first[k], begin = number * chunk, n = item.what.count;
    block.each([&](int t) {
      const auto least = item.found->least;
      for (int v = 0; v < each; ++v) {
        const int four = v * threads + t;
        const std::int64_t i = begin + four * 4;
        const auto x = load_four(item.what.x, i, n);
        unsigned mask = 0;
        for (int j = 0; j < 4; ++j) {
          if (i + j < n && magnitude(x.at[j]) >= least) mask |= 1U << j;
        }
        shared.masks[four] = static_cast<std::uint8_t>(mask);
      }
    });
    block.each([&](int t) {  // here and below, thread t has `each` fours in a row
      std::uint32_t sum = 0;
      for (int v = 0; v < each; ++v) sum += count_bits(shared.masks[t * each + v]);
      shared.sums[t] = sum;
    });
    sum_up(block, shared.sums, shared.other);
    block.each([&](int t) {
      if (t != 0) return;
      const std::uint32_t length = shared.sums[threads - 1];
      const auto start = length > 0 ? block.add(&item.found->total, length) : 0;
      const bool fits = static_cast<std::int64_t>(start) + length <= item.room;
      if (!fits) item.found->overflow = 1;  // several blocks may: all write the same
      item.starts[number] = shared.start = start;
      item.lengths[number] = fits ? length : 0;
      if (!fits) shared.start = 0xffffffffU;
    });
    block.each([&](int t) {
      if (shared.start == 0xffffffffU) return;
      auto to = shared.start + (t == 0 ? 0 : shared.sums[t - 1]);
      for (int v = 0; v < each; ++v) {
        const int four = t * each + v;
        for (int j = 0; j < 4; ++j) {
          if ((shared.masks[four] >> j & 1U) == 0) continue;
          const std::int64_t i = begin + four * 4 + j;
          item.indices[to] = static_cast<std::uint32_t>(i);
          item.values[to++] = item.what.x[i];
        }
      }
    });
  }

  ACP_HOST_DEVICE static std::uint32_t count_bits(unsigned four) {
    return (four & 1U) + (four >> 1U & 1U) + (four >> 2U & 1U) + (four >> 3U & 1U);
  }
};

// How often each class of a digit occurs among those that have the digits so far. Blocks share the numbers
// evenly.
struct CountBody {
  static constexpr std::int64_t stretch = 32768;  // of all numbers, for a block
  struct Shared {
    std::uint32_t counts[classes];
  };
  Batch<Selecting> batch;
  int round;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const int k = batch.find(block.index());
    const auto& item = batch.items[k];
    const std::int64_t blocks = (item.what.count + stretch - 1) / stretch,
                       number = block.index() - batch.first[k];
    block.each([&](int t) {
      for (int i = t; i < classes; i += threads) shared.counts[i] = 0;
    });
    block.each([&](int t) {
      const Found found = *item.found;
      const bool all = looks_at_all(found, item.what.k);
      const float* const x = all ? item.what.x : item.values;
      const std::int64_t n = all ? item.what.count : found.total, share = (n + blocks - 1) / blocks;
      const auto [shift, bits] = digit(round);
      const std::uint32_t mask = (1U << bits) - 1;
      for (auto i = number * share + t; i < least_of(n, (number + 1) * share); i += threads) {
        const auto m = magnitude(x[i]);
        if ((m & found.known) == found.prefix) block.add(&shared.counts[m >> shift & mask], 1U);
      }
    });
    block.each([&](int t) {
      for (int i = t; i < classes; i += threads) {
        if (shared.counts[i] > 0) block.add(&item.counts[i], shared.counts[i]);
      }
    });
  }
};

// A block an item: the next digit of the k-th magnitude, and the counts cleared for the one after it.
struct PickBody {
  struct Shared {
    Picking picking;
  };
  Batch<Selecting> batch;
  int round;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const auto& item = batch.items[batch.find(block.index())];
    pick(block, item.counts, item.found->left, shared.picking);
    block.each([&](int t) {
      for (int i = t; i < classes; i += threads) item.counts[i] = 0;
      if (t != 0) return;
      const auto [shift, bits] = digit(round);
      item.found->prefix |= shared.picking.digit << shift;
      item.found->known |= ((1U << bits) - 1) << shift;
      item.found->left = shared.picking.left;
      if (round == 2) item.found->ties = shared.picking.left;  // of its own magnitude, so many are wanted
    });
  }
};

// What a chunk has to offer: its candidates, or all its numbers.
struct Run {
  const float* values;
  const std::uint32_t* indices;  // null: all numbers from `begin` on
  std::int64_t begin;
  std::int64_t length;

  ACP_HOST_DEVICE std::uint32_t index(std::int64_t i) const {
    return indices != nullptr ? indices[i] : static_cast<std::uint32_t>(begin + i);
  }
};

ACP_HOST_DEVICE inline Run run_of(const Selecting& item, std::int64_t number) {
  if (looks_at_all(*item.found, item.what.k)) {
    const std::int64_t begin = number * chunk;
    return {item.what.x + begin, nullptr, begin, least_of(chunk, item.what.count - begin)};
  }
  const auto start = item.starts[number];
  return {item.values + start, item.indices + start, 0, item.lengths[number]};
}

// A block a chunk: how many of its numbers are above the k-th magnitude, how many equal it.
struct RankBody {
  struct Shared {
    std::uint32_t above, equal;
  };
  Batch<Selecting> batch;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const int k = batch.find(block.index());
    const auto& item = batch.items[k];
    const std::int64_t number = block.index() - batch.first[k];
    block.each([&](int t) {
      if (t == 0) shared.above = shared.equal = 0;
    });
    block.each([&](int t) {
      const auto run = run_of(item, number);
      const auto limit = item.found->prefix;
      std::uint32_t above = 0, equal = 0;
      for (std::int64_t i = t; i < run.length; i += threads) {
        const auto m = magnitude(run.values[i]);
        above += m > limit ? 1 : 0;
        equal += m == limit ? 1 : 0;
      }
      if (above > 0) block.add(&shared.above, above);
      if (equal > 0) block.add(&shared.equal, equal);
    });
    block.each([&](int t) {
      if (t != 0) return;
      item.above[number] = shared.above;
      item.equal[number] = shared.equal;
    });
  }
};

// A block an item: of each chunk, how many there are in the chunks before.
struct OffsetBody {
  struct Shared {
    std::uint32_t above[threads], equal[threads], other[threads];
  };
  Batch<Selecting> batch;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const auto& item = batch.items[batch.find(block.index())];
    const std::int64_t chunks = (item.what.count + chunk - 1) / chunk,
                       share = (chunks + threads - 1) / threads;
    block.each([&](int t) {
      std::uint32_t above = 0, equal = 0;
      for (auto i = t * share; i < least_of(chunks, (t + 1) * share); ++i) {
        above += item.above[i];
        equal += item.equal[i];
      }
      shared.above[t] = above;
      shared.equal[t] = equal;
    });
    sum_up(block, shared.above, shared.other);
    sum_up(block, shared.equal, shared.other);
    block.each([&](int t) {
      std::uint32_t above = t == 0 ? 0 : shared.above[t - 1], equal = t == 0 ? 0 : shared.equal[t - 1];
      for (auto i = t * share; i < least_of(chunks, (t + 1) * share); ++i) {
        const auto own_above = item.above[i], own_equal = item.equal[i];
        item.above[i] = above;
        item.equal[i] = equal;
        above += own_above;
        equal += own_equal;
      }
    });
  }
};

// A block a chunk: the chosen ones, each to its place.
struct WriteBody {
  struct Shared {
    std::uint32_t above[threads], equal[threads], other[threads];
  };
  Batch<Selecting> batch;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const int k = batch.find(block.index());
    const auto& item = batch.items[k];
    const std::int64_t number = block.index() - batch.first[k];
    block.each([&](int t) {
      const auto run = run_of(item, number);
      const auto limit = item.found->prefix;
      const std::int64_t share = (run.length + threads - 1) / threads;
      std::uint32_t above = 0, equal = 0;
      for (auto i = t * share; i < least_of(run.length, (t + 1) * share); ++i) {
        const auto m = magnitude(run.values[i]);
        above += m > limit ? 1 : 0;
        equal += m == limit ? 1 : 0;
      }
      shared.above[t] = above;
      shared.equal[t] = equal;
    });
    sum_up(block, shared.above, shared.other);
    sum_up(block, shared.equal, shared.other);
    block.each([&](int t) {
      const auto run = run_of(item, number);
      const auto limit = item.found->prefix, ties = item.found->ties;
      const std::int64_t share = (run.length + threads - 1) / threads;
      std::uint32_t above = item.above[number] + (t == 0 ? 0 : shared.above[t - 1]);
      std::uint32_t equal = item.equal[number] + (t == 0 ? 0 : shared.equal[t - 1]);
      for (auto i = t * share; i < least_of(run.length, (t + 1) * share); ++i) {
        const float value = run.values[i];
        const auto m = magnitude(value);
        if (m < limit) continue;
        const bool chosen = m > limit || equal < ties;
        const auto to = above + least_of(equal, ties);
        above += m > limit ? 1 : 0;
        equal += m == limit ? 1 : 0;
        if (!chosen) continue;
        const auto index = run.index(i);
        item.what.indices[to] = index;
        item.what.values[to] = value;
        if (item.what.rest != nullptr) item.what.rest[index] = 0;
      }
    });
  }
};

}  // namespace acp::device
