// The values are worked on in stretches that stay in the first cache, whatever the buckets.
#include "compressors/bucketed.h"

#include <algorithm>

#include "compressors/code.h"
#include "compressors/kernels/pack.h"
#include "compressors/kernels/random.h"

namespace acp {
namespace {

constexpr std::size_t stretch = 2048;  // a multiple of 8, so that its levels begin at a byte

}  // namespace

struct BucketedQuantiser::Places {
  std::size_t bucket, numbers, packed, total;  // values, floats before the levels, bytes of levels, all bytes
};

BucketedQuantiser::Places BucketedQuantiser::places(std::size_t n) const {
  const std::size_t bucket = layout_.bucket == 0 ? std::max<std::size_t>(n, 1) : layout_.bucket;
  const std::size_t numbers = (n + bucket - 1) / bucket * layout_.numbers;
  const std::size_t packed = kernels::packed_bytes(n, bits_);
  const std::size_t aligned = (packed + layout_.align - 1) / layout_.align * layout_.align;
  return {bucket, numbers, packed, numbers * sizeof(float) + aligned};
}

std::size_t BucketedQuantiser::bytes(std::int64_t n) const {
  return places(static_cast<std::size_t>(n)).total;
}

void BucketedQuantiser::encode(std::span<const float> x, const Block& block, std::span<std::byte> code) {
  encode(x, nullptr, block, code);
}

void BucketedQuantiser::encode_and_keep(std::span<float> y, const Block& block, std::span<std::byte> code) {
  encode(y, y.data(), block, code);
}

// `rest` is null, or where x lies: there what the code lacks is left.
void BucketedQuantiser::encode(std::span<const float> x, float* rest, const Block& block,
                               std::span<std::byte> code) const {
  const auto [bucket, count_numbers, packed, total] = places(x.size());
  std::byte* const to = code.data() + count_numbers * sizeof(float);
  const auto key = block.own(Purpose::round).key();
  std::array<std::uint8_t, stretch> levels;
  std::array<std::uint32_t, stretch> words;
  std::array<float, stretch> decoded;
  Numbers numbers{};
  for (std::size_t from = 0; from < x.size(); from += stretch) {
    const std::size_t end = std::min(from + stretch, x.size());
    kernels::Words draws;
    if (layout_.stochastic) {
      kernels::random_words(key, from, std::span(words).first(end - from));
      draws = std::span(words).first(end - from);
    }
    for (std::size_t at = from; at < end;) {
      const std::size_t index = at / bucket, begin = index * bucket;
      const std::size_t stop = std::min(begin + bucket, end);
      // A bucket is measured where it begins, before anything in it is changed.
      if (at == begin) {
        numbers = measure(x.subspan(begin, std::min(bucket, x.size() - begin)));
        for (std::size_t k = 0; k < layout_.numbers; ++k) {
          code::write(code, (index * layout_.numbers + k) * sizeof(float), numbers[k]);
        }
      }
      const auto some = draws.empty() ? draws : draws.subspan(at - from, stop - at);
      to_levels(x.subspan(at, stop - at), numbers, some, levels.data() + (at - from));
      if (rest != nullptr) {
        to_values(levels.data() + (at - from), numbers, std::span(decoded).first(stop - at));
        for (std::size_t i = at; i < stop; ++i) rest[i] -= decoded[i - at];
      }
      at = stop;
    }
    kernels::pack_levels(std::span(levels).first(end - from), bits_,
                         to + from * static_cast<std::size_t>(bits_) / 8);
  }
  std::fill(to + packed, code.data() + total, std::byte{0});
}

void BucketedQuantiser::decode(std::span<const std::byte> code, std::span<float> out) const {
  const auto [bucket, count_numbers, packed, total] = places(out.size());
  code::check_size(layout_.method, code, total);
  const auto from_levels = code.subspan(count_numbers * sizeof(float));
  code::check_padding(layout_.method, from_levels, out.size() * static_cast<std::size_t>(bits_));
  std::array<std::uint8_t, stretch> levels;
  Numbers numbers{};
  for (std::size_t from = 0; from < out.size(); from += stretch) {
    const std::size_t end = std::min(from + stretch, out.size());
    const auto some = std::span(levels).first(end - from);
    kernels::unpack_levels(from_levels.data() + from * static_cast<std::size_t>(bits_) / 8, bits_, some);
    const unsigned largest = kernels::largest_level(some);
    if (largest > largest_level()) code::refuse_level(layout_.method, largest, largest_level());
    for (std::size_t at = from; at < end;) {
      const std::size_t index = at / bucket, stop = std::min((index + 1) * bucket, end);
      if (at == index * bucket) {
        for (std::size_t k = 0; k < layout_.numbers; ++k) {
          numbers[k] = code::read(code, (index * layout_.numbers + k) * sizeof(float));
        }
        check(numbers);
      }
      to_values(levels.data() + (at - from), numbers, out.subspan(at, stop - at));
      at = stop;
    }
  }
}

}  // namespace acp
