// Where things lie in a code of few bits, and the bodies that form the numbers of its buckets.
#pragma once

#include <cfloat>

#include "compressors/cuda/block.h"
#include "compressors/cuda/kernels.h"
#include "compressors/cuda/numbers.h"

namespace acp::device {

ACP_HOST_DEVICE inline int numbers_of(const LevelCode& code) {
  switch (code.numbers) {
    case LevelCode::Numbers::none:
      return 0;
    case LevelCode::Numbers::halves:
    case LevelCode::Numbers::range:
      return 2;
    default:
      return 1;
  }
}

// Where things lie in the code of n values.
struct CodePlaces {
  std::int64_t bucket, buckets, levels, packed, total;  // levels: bytes before them; packed: bytes of them

  ACP_HOST_DEVICE CodePlaces(const LevelCode& code, std::int64_t n) {
    const auto all = most_of<std::int64_t>(n, 1);
    bucket = code.bucket == 0 ? all : least_of(code.bucket, all);
    buckets = (n + bucket - 1) / bucket;
    levels = buckets * numbers_of(code) * static_cast<std::int64_t>(sizeof(float));
    packed = (n * code.bits + 7) / 8;
    total = levels + (packed + code.align - 1) / code.align * code.align;
  }
};

// Sums over a stretch of values; which of them count depends on the code.
struct Stretch {
  double first, second;  // of all, or of negative ones and the others
  std::int64_t negatives;
  float low, high;

  ACP_HOST_DEVICE static Stretch empty() { return {0, 0, 0, as_float(0x7f800000U), as_float(0xff800000U)}; }

  ACP_HOST_DEVICE void take(float x, LevelCode::Numbers numbers) {
    const float size = std::fabs(x);
    const double wide = static_cast<double>(x);
    switch (numbers) {
      case LevelCode::Numbers::mean:
        first += std::fabs(wide);
        break;
      case LevelCode::Numbers::halves:
        if (x < 0) {
          first += wide;
          ++negatives;
        } else {
          second += wide;
        }
        break;
      case LevelCode::Numbers::norm:
        first += wide * wide;
        high = most_of(high, size);
        break;
      case LevelCode::Numbers::largest:
        high = most_of(high, size);
        break;
      default:
        low = least_of(low, x);
        high = most_of(high, x);
    }
  }

  ACP_HOST_DEVICE void join(const Stretch& other) {
    first += other.first;
    second += other.second;
    negatives += other.negatives;
    low = least_of(low, other.low);
    high = most_of(high, other.high);
  }

  // The numbers of a bucket of n > 0 values.
  ACP_HOST_DEVICE void write(const LevelCode& code, std::int64_t n, float* to) const {
    const auto mean = [](double sum, std::int64_t count) {
      return count == 0 ? 0.0F : static_cast<float>(sum / static_cast<double>(count));
    };
    switch (code.numbers) {
      case LevelCode::Numbers::mean:
        to[0] = mean(first, n);
        break;
      case LevelCode::Numbers::halves:
        to[0] = mean(first, negatives);
        to[1] = mean(second, n - negatives);
        break;
      case LevelCode::Numbers::norm:
        to[0] = most_of(static_cast<float>(least_of(std::sqrt(first), static_cast<double>(FLT_MAX))), high);
        break;
      case LevelCode::Numbers::largest:
        to[0] = high;
        break;
      case LevelCode::Numbers::range: {
        const float min = low + 0.0F, max = high + 0.0F;  // never -0
        to[0] = least_of(max - min, FLT_MAX / 2) / static_cast<float>(code.top);
        to[1] = min;
        break;
      }
      case LevelCode::Numbers::none:
        break;
    }
  }
};

inline constexpr std::int64_t stretch = 4096;
inline constexpr int lanes = 8;  // as the CPU's sums have

inline std::int64_t stretches_of(const LevelCode& code, std::int64_t count) {
  const CodePlaces places(code, count);
  return places.buckets * divide_up(places.bucket, stretch);
}

struct Measuring {
  Encode what;
  Stretch* stretches;  // null: a bucket is one, and its numbers are written at once
};

// Eight threads a stretch, each adding every eighth value.
struct MeasureBody {
  static constexpr int at_once = threads / lanes;
  struct Shared {
    Stretch lane[threads];
  };
  Batch<Measuring> batch;
  LevelCode code;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const int k = batch.find(block.index());
    const auto& item = batch.items[k];
    const std::int64_t n = item.what.count, first = (block.index() - batch.first[k]) * at_once;
    const CodePlaces places(code, n);
    const std::int64_t width = least_of(places.bucket, stretch), each = (places.bucket + width - 1) / width;
    block.each([&](int t) {
      const std::int64_t number = first + t / lanes, bucket = number / each, inside = number % each * width;
      const std::int64_t begin = bucket * places.bucket + inside;
      const auto end = least_of(n, least_of(begin + width, (bucket + 1) * places.bucket));
      auto own = Stretch::empty();
      for (auto i = begin + t % lanes; i < end; i += lanes) own.take(item.what.x[i], code.numbers);
      shared.lane[t] = own;
    });
    block.each([&](int t) {
      const std::int64_t number = first + t / lanes;
      if (t % lanes != 0 || number >= places.buckets * each) return;
      auto sum = Stretch::empty();
      for (int l = 0; l < lanes; ++l) sum.join(shared.lane[t + l]);
      if (item.stretches != nullptr) {
        item.stretches[number] = sum;
      } else {
        auto* const numbers = reinterpret_cast<float*>(item.what.code) + number * numbers_of(code);
        sum.write(code, least_of(places.bucket, n - number * places.bucket), numbers);
      }
    });
  }
};

// A block a bucket that has several stretches.
struct JoinBody {
  struct Shared {
    Stretch some[threads];
  };
  Batch<Measuring> batch;
  LevelCode code;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const int k = batch.find(block.index());
    const auto& item = batch.items[k];
    const std::int64_t n = item.what.count, bucket = block.index() - batch.first[k];
    const CodePlaces places(code, n);
    const std::int64_t each = (places.bucket + stretch - 1) / stretch, share = (each + threads - 1) / threads;
    block.each([&](int t) {
      auto sum = Stretch::empty();
      for (auto i = t * share; i < least_of(each, (t + 1) * share); ++i)
        sum.join(item.stretches[bucket * each + i]);
      shared.some[t] = sum;
    });
    block.each([&](int t) {
      if (t != 0) return;
      auto sum = Stretch::empty();
      for (int i = 0; i < threads; ++i) sum.join(shared.some[i]);
      auto* const numbers = reinterpret_cast<float*>(item.what.code) + bucket * numbers_of(code);
      sum.write(code, least_of(places.bucket, n - bucket * places.bucket), numbers);
    });
  }
};

}  // namespace acp::device
