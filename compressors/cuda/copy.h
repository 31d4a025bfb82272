// Bodies of the fused copy and of error feedback.
#pragma once

#include "compressors/cuda/block.h"
#include "compressors/cuda/kernels.h"
#include "compressors/cuda/numbers.h"

namespace acp::device {

// Four in a row at once, where place and number allow it.
template <class T>
struct alignas(4 * sizeof(T)) Four {
  T at[4];
};

template <class T>
ACP_HOST_DEVICE bool fits_four(const T* x) {
  return reinterpret_cast<std::uintptr_t>(x) % sizeof(Four<T>) == 0;
}

// x[i .. i + 3] of `count` numbers; those behind the end are zero.
template <class T>
ACP_HOST_DEVICE Four<T> load_four(const T* x, std::int64_t i, std::int64_t count) {
  if (i + 4 <= count && fits_four(x + i)) return *reinterpret_cast<const Four<T>*>(x + i);
  Four<T> four{};
  for (int j = 0; j < 4 && i + j < count; ++j) four.at[j] = x[i + j];
  return four;
}

template <class T>
ACP_HOST_DEVICE void store_four(T* x, std::int64_t i, std::int64_t count, const Four<T>& four) {
  if (i + 4 <= count && fits_four(x + i)) {
    *reinterpret_cast<Four<T>*>(x + i) = four;
  } else {
    for (int j = 0; j < 4 && i + j < count; ++j) x[i + j] = four.at[j];
  }
}

inline constexpr std::int64_t copy_tile = 4096;  // numbers of a block

template <class From, class To>
struct CopyBody {
  using Shared = Nothing;
  Batch<Copy> batch;
  float scale;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared&) const {
    const int k = batch.find(block.index());
    const Copy& piece = batch.items[k];
    const auto* const from = static_cast<const From*>(piece.from);
    auto* const to = static_cast<To*>(piece.to);
    const std::int64_t begin = (block.index() - batch.first[k]) * copy_tile;
    block.each([&](int t) {
      for (int v = 0; v < copy_tile / (4 * threads); ++v) {
        const std::int64_t i = begin + (v * threads + t) * 4;
        const auto in = load_four(from, i, piece.count);
        Four<To> out;
        for (int j = 0; j < 4; ++j) from_float(scale * to_float(in.at[j]), out.at[j]);
        store_four(to, i, piece.count, out);
      }
    });
  }
};

template <class From, class To, class Launch>
void copy_as(std::span<const Copy> pieces, float scale, const Launch& launch) {
  in_batches(
      pieces, [](const Copy& piece) { return divide_up(piece.count, copy_tile); },
      [&](const Batch<Copy>& batch, std::int64_t blocks) {
        launch(blocks, CopyBody<From, To>{batch, scale});
      });
}

template <class From, class Launch>
void copy_from(std::span<const Copy> pieces, Type to, float scale, const Launch& launch) {
  if (to == Type::float32) copy_as<From, float>(pieces, scale, launch);
  if (to == Type::float16) copy_as<From, Half>(pieces, scale, launch);
  if (to == Type::bfloat16) copy_as<From, Brain>(pieces, scale, launch);
}

template <class Launch>
void copy(std::span<const Copy> pieces, Type from, Type to, float scale, const Launch& launch) {
  if (from == Type::float32) copy_from<float>(pieces, to, scale, launch);
  if (from == Type::float16) copy_from<Half>(pieces, to, scale, launch);
  if (from == Type::bfloat16) copy_from<Brain>(pieces, to, scale, launch);
}

// Error feedback, and whether what it gives is finite: one pass.
struct AccumulateBody {
  struct Shared {
    std::uint32_t largest;
  };
  Batch<Sum> batch;
  float scale;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const int k = batch.find(block.index());
    const Sum& item = batch.items[k];
    const std::int64_t begin = (block.index() - batch.first[k]) * copy_tile;
    block.each([&](int t) {
      if (t == 0) shared.largest = 0;
    });
    block.each([&](int t) {
      std::uint32_t own = 0;
      for (int v = 0; v < copy_tile / (4 * threads); ++v) {
        const std::int64_t i = begin + (v * threads + t) * 4;
        auto sum = load_four(item.to, i, item.count);
        if (item.from != nullptr) {
          const auto in = load_four(item.from, i, item.count);
          for (int j = 0; j < 4; ++j) {
            const float scaled = scale * in.at[j];
            sum.at[j] += scaled;
          }
          store_four(item.to, i, item.count, sum);
        }
        for (int j = 0; j < 4; ++j) own = most_of(own, magnitude(sum.at[j]));
      }
      if (own > 0) block.raise(&shared.largest, own);
    });
    block.each([&](int t) {
      if (t == 0 && shared.largest > 0) block.raise(item.largest, shared.largest);
    });
  }
};

template <class Launch>
void accumulate(std::span<const Sum> sums, float scale, const Launch& launch) {
  in_batches(
      sums, [](const Sum& sum) { return divide_up(sum.count, copy_tile); },
      [&](const Batch<Sum>& batch, std::int64_t blocks) {
        launch(blocks, AccumulateBody{batch, scale});
      });
}

struct SpoilBody {
  using Shared = Nothing;
  float* number;
  const std::uint32_t* largest;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      if (t == 0 && *largest >= infinite) *number = as_float(0x7fc00000U);
    });
  }
};

}  // namespace acp::device
