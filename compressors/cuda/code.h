// Bodies that write values with few bits and read them back, for all codes that LevelCode describes: the
// numbers of each bucket first, then levels. With the same numbers codes are bit for bit the CPU's, also
// where rounding is stochastic. Numbers are the CPU's, too, but those of buckets of more than `stretch`
// values, whose sums are formed in another order (in double).
#pragma once

#include "compressors/cuda/block.h"
#include "compressors/cuda/copy.h"
#include "compressors/cuda/kernels.h"
#include "compressors/cuda/measure.h"
#include "compressors/cuda/numbers.h"
#include "compressors/cuda/scatter.h"
#include "compressors/kernels/level_arithmetic.h"
#include "compressors/philox.h"

namespace acp::device {

inline std::size_t encode_scratch(std::span<const Encode> parts, const LevelCode& code) {
  std::int64_t count = 0;
  for (const auto& part : parts) {
    if (CodePlaces(code, part.count).bucket > stretch) count += stretches_of(code, part.count);
  }
  return static_cast<std::size_t>(count) * sizeof(Stretch);
}

// The level of a value, and the value of a level, of a bucket with these numbers.
ACP_HOST_DEVICE inline int to_level(const LevelCode& code, const float* numbers, float x,
                                    std::uint32_t word) {
  if (code.levels == LevelCode::Levels::sign) return x >= 0 ? 1 : 0;
  const auto top = static_cast<float>(code.top);
  const bool dither = code.levels == LevelCode::Levels::dither;
  if (dither && numbers[0] == 0) return code.top;
  if (!dither && (numbers[0] == 0 || numbers[0] < code.least_unit)) return 0;
  const float level = dither ? std::fabs(x) / numbers[0] * top : (x - numbers[1]) / numbers[0];
  const int whole = code.stochastic ? kernels::to_either(level, top, word) : kernels::to_nearest(level, top);
  if (!dither) return whole;
  return x < 0 ? code.top - whole : code.top + whole;
}

ACP_HOST_DEVICE inline float to_value(const LevelCode& code, const float* numbers, int level) {
  if (code.levels == LevelCode::Levels::dither) return kernels::signed_value(level, numbers[0], code.top);
  if (code.levels == LevelCode::Levels::range) return kernels::range_value(level, numbers[1], numbers[0]);
  switch (code.numbers) {
    case LevelCode::Numbers::mean:
      return level != 0 ? numbers[0] : -numbers[0];
    case LevelCode::Numbers::halves:
      return level != 0 ? numbers[1] : numbers[0];
    default:
      return level != 0 ? 1.0F : -1.0F;
  }
}

// Walks along values bucket by bucket with one division.
struct Walk {
  const float* numbers;
  std::int64_t inside, bucket;
  int count;

  ACP_HOST_DEVICE Walk(const std::byte* code, const CodePlaces& places, int count_, std::int64_t i)
      : inside(i % places.bucket), bucket(places.bucket), count(count_) {
    numbers = reinterpret_cast<const float*>(code) + i / places.bucket * count;
  }
  ACP_HOST_DEVICE void next() {
    if (++inside == bucket) {
      inside = 0;
      numbers += count;
    }
  }
};

ACP_HOST_DEVICE inline bool fits_word(const std::byte* x) {
  return reinterpret_cast<std::uintptr_t>(x) % sizeof(std::uint32_t) == 0;
}

ACP_HOST_DEVICE inline void store_bytes(std::byte* to, std::uint64_t bits, int bytes) {
  for (; bytes >= 4 && fits_word(to); bytes -= 4, to += 4, bits >>= 32U) {
    *reinterpret_cast<std::uint32_t*>(to) = static_cast<std::uint32_t>(bits);
  }
  for (int b = 0; b < bytes; ++b) to[b] = static_cast<std::byte>(bits >> (8 * b) & 255U);
}

ACP_HOST_DEVICE inline std::uint64_t load_bytes(const std::byte* from, int bytes) {
  std::uint64_t bits = 0;
  int done = 0;
  for (; done + 4 <= bytes && fits_word(from + done); done += 4) {
    bits |= std::uint64_t{*reinterpret_cast<const std::uint32_t*>(from + done)} << (8 * done);
  }
  for (; done < bytes; ++done) bits |= static_cast<std::uint64_t>(from[done]) << (8 * done);
  return bits;
}

inline constexpr std::int64_t code_tile = 2048;  // values of a block, 8 of a thread

struct EncodeBody {
  struct Shared {
    std::uint32_t words[code_tile];
  };
  Batch<Encode> batch;
  LevelCode code;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const int k = batch.find(block.index());
    const auto& item = batch.items[k];
    const std::int64_t tile = block.index() - batch.first[k], begin = tile * code_tile, n = item.count;
    const CodePlaces places(code, n);
    const int count = numbers_of(code);
    if (code.stochastic) {
      // In the order of kernels/random.h: word 32 g + 8 w + c is word w of counter 8 g + c.
      block.each([&](int t) {
        for (int i = 2 * t; i < 2 * t + 2; ++i) {
          const auto counter = static_cast<std::uint64_t>(tile * (code_tile / 4) + i);
          const auto four = Philox::rounds(
              {static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32U), 0, 0},
              {item.key[0], item.key[1]});
          for (int w = 0; w < 4; ++w) {
            shared.words[i / 8 * 32 + 8 * w + i % 8] = four[static_cast<std::size_t>(w)];
          }
        }
      });
    }
    block.each([&](int t) {
      const std::int64_t i = begin + 8 * t;
      if (t == 0 && begin + code_tile >= n) {
        for (auto b = places.levels + places.packed; b < places.total; ++b) item.code[b] = std::byte{0};
      }
      if (i >= n) return;
      const int some = static_cast<int>(least_of<std::int64_t>(8, n - i));
      const Four<float> in[2] = {load_four(item.x, i, n), load_four(item.x, i + 4, n)};
      Four<float> left[2] = {in[0], in[1]};
      Walk walk(item.code, places, count, i);
      std::uint64_t bits = 0;
      for (int j = 0; j < 8; ++j) {
        if (j >= some) break;
        const float x = in[j / 4].at[j % 4];
        const int level = to_level(code, walk.numbers, x, code.stochastic ? shared.words[8 * t + j] : 0);
        bits |= static_cast<std::uint64_t>(level) << (8 * j);
        left[j / 4].at[j % 4] = x - to_value(code, walk.numbers, level);
        walk.next();
      }
      store_bytes(item.code + places.levels + i / 8 * code.bits, kernels::join(bits, code.bits),
                  (some * code.bits + 7) / 8);
      if (item.rest == nullptr) return;
      store_four(item.rest, i, n, left[0]);
      store_four(item.rest, i + 4, n, left[1]);
    });
  }
};

template <class Launch>
void encode(std::span<const Encode> parts, const LevelCode& code, std::byte* scratch, const Launch& launch) {
  if (code.numbers != LevelCode::Numbers::none) {
    auto* next = reinterpret_cast<Stretch*>(scratch);
    constexpr std::size_t at_once = Batch<Measuring>::capacity;
    for (std::size_t from = 0; from < parts.size(); from += at_once) {
      Measuring items[at_once];
      const auto size = least_of(at_once, parts.size() - from);
      bool several = false;
      for (std::size_t k = 0; k < size; ++k) {
        const bool wide = CodePlaces(code, parts[from + k].count).bucket > stretch;
        items[k] = {parts[from + k], wide ? next : nullptr};
        if (wide) next += stretches_of(code, parts[from + k].count);
        several = several || wide;
      }
      const std::span<const Measuring> some(items, size);
      in_batches(
          some,
          [&](const Measuring& item) {
            return item.what.count == 0
                       ? 0
                       : divide_up(stretches_of(code, item.what.count), MeasureBody::at_once);
          },
          [&](const Batch<Measuring>& batch, std::int64_t blocks) {
            launch(blocks, MeasureBody{batch, code});
          });
      if (!several) continue;
      in_batches(
          some,
          [&](const Measuring& item) {
            return item.stretches == nullptr || item.what.count == 0
                       ? 0
                       : CodePlaces(code, item.what.count).buckets;
          },
          [&](const Batch<Measuring>& batch, std::int64_t blocks) {
            launch(blocks, JoinBody{batch, code});
          });
    }
  }
  in_batches(
      parts, [](const Encode& part) { return divide_up(part.count, code_tile); },
      [&](const Batch<Encode>& batch, std::int64_t blocks) {
        launch(blocks, EncodeBody{batch, code});
      });
}

// The sum over ranks, in their order.
struct DecodeBody {
  using Shared = Nothing;
  Batch<Decode> batch;
  LevelCode code;
  int ranks;
  std::int64_t stride;
  Combined combined;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared&) const {
    const int k = batch.find(block.index());
    const auto& item = batch.items[k];
    const std::int64_t begin = (block.index() - batch.first[k]) * code_tile, n = item.count;
    const CodePlaces places(code, n);
    const int count = numbers_of(code);
    const kernels::Masks masks(code.bits);
    block.each([&](int t) {
      const std::int64_t i = begin + 8 * t;
      if (i >= n) return;
      const int some = static_cast<int>(least_of<std::int64_t>(8, n - i)), bytes = (some * code.bits + 7) / 8;
      Four<float> sums[2] = {};
      if (item.base != nullptr) {
        sums[0] = load_four(item.base, i, n);
        sums[1] = load_four(item.base, i + 4, n);
      }
      for (int rank = 0; rank < ranks; ++rank) {
        if (item.flags != nullptr) {
          const auto byte = static_cast<unsigned>(item.flags[rank * stride + item.flag / 8]);
          if ((byte >> (item.flag % 8) & 1U) == 0) continue;
        }
        const std::byte* const from = item.codes + rank * stride;
        Walk walk(from, places, count, i);
        std::uint64_t bits = load_bytes(from + places.levels + i / 8 * code.bits, bytes);
        bits = kernels::part(bits, code.bits, masks);
        for (int j = 0; j < 8; ++j) {
          if (j >= some) break;
          sums[j / 4].at[j % 4] += to_value(code, walk.numbers, static_cast<int>(bits >> (8 * j) & 255U));
          walk.next();
        }
      }
      for (auto& four : sums) {
        for (float& sum : four.at) sum = combine(sum, combined);
      }
      store_four(item.out, i, n, sums[0]);
      store_four(item.out, i + 4, n, sums[1]);
    });
  }
};

template <class Launch>
void decode(std::span<const Decode> parts, const LevelCode& code, int ranks, std::int64_t stride,
            Combined combined, const Launch& launch) {
  in_batches(
      parts, [](const Decode& part) { return divide_up(part.count, code_tile); },
      [&](const Batch<Decode>& batch, std::int64_t blocks) {
        launch(blocks, DecodeBody{batch, code, ranks, stride, combined});
      });
}

}  // namespace acp::device
