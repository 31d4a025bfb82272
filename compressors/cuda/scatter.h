// Body of the sum of sparse payloads: each block owns a stretch of the result and looks up, in every rank's
// ascending indices, what falls into it. Ranks are added in order, so all ranks get the same bits, and
// nothing is written twice.
#pragma once

#include "compressors/cuda/block.h"
#include "compressors/cuda/kernels.h"

namespace acp::device {

// The first of k ascending numbers that is not below `bound`.
ACP_HOST_DEVICE inline std::int64_t lower_bound(const std::uint32_t* numbers, std::int64_t k,
                                                std::int64_t bound) {
  std::int64_t low = 0, high = k;
  while (low < high) {
    const auto middle = (low + high) / 2;
    if (numbers[middle] < bound) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

ACP_HOST_DEVICE inline float combine(float sum, const Combined& combined) {
  if (combined.majority) return sum >= 0 ? 1.0F : -1.0F;
  return combined.divisor == 1 ? sum : sum / combined.divisor;
}

struct ScatterBody {
  static constexpr std::int64_t tile = 4096;
  struct Shared {
    float sums[tile];
    std::int64_t begin, end;
  };
  Batch<Scatter> batch;
  int ranks;
  std::int64_t stride;
  Combined combined;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const int number = batch.find(block.index());
    const auto& item = batch.items[number];
    const std::int64_t begin = (block.index() - batch.first[number]) * tile;
    const std::int64_t end = least_of(begin + tile, item.count);
    block.each([&](int t) {
      for (int i = t; i < tile; i += threads) shared.sums[i] = 0;
    });
    for (int rank = 0; rank < ranks; ++rank) {
      const auto* const indices = reinterpret_cast<const std::uint32_t*>(
          reinterpret_cast<const std::byte*>(item.indices) + rank * stride);
      const auto* const values =
          reinterpret_cast<const float*>(reinterpret_cast<const std::byte*>(item.values) + rank * stride);
      block.each([&](int t) {
        if (t == 0) shared.begin = lower_bound(indices, item.k, begin);
        if (t == 32) shared.end = lower_bound(indices, item.k, end);
      });
      block.each([&](int t) {
        for (auto i = shared.begin + t; i < shared.end; i += threads) {
          const std::int64_t at = indices[i];
          // What a rank has damaged must not be written elsewhere.
          if (at >= begin && at < end) shared.sums[at - begin] += values[i];
        }
      });
    }
    block.each([&](int t) {
      for (auto i = begin + t; i < end; i += threads) item.out[i] = combine(shared.sums[i - begin], combined);
    });
  }
};

template <class Launch>
void scatter(std::span<const Scatter> parts, int ranks, std::int64_t stride, Combined combined,
             const Launch& launch) {
  in_batches(
      parts, [](const Scatter& part) { return divide_up(part.count, ScatterBody::tile); },
      [&](const Batch<Scatter>& batch, std::int64_t blocks) {
        launch(blocks, ScatterBody{batch, ranks, stride, combined});
      });
}

}  // namespace acp::device
