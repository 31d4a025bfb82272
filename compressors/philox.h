// Counter-based random numbers: a pure function of (seed, parameter, step, purpose, index), so there is no
// generator to save, and ranks that leave their number out of the key draw the same.
//
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>

#include "compressors/host_device.h"

namespace acp {

// What numbers are drawn for; numbers of different purposes are independent.
enum class Purpose : std::uint32_t { start_p = 1, start_q = 2, select = 3, round = 4, data = 5 };

// FNV-1a, 64 bits: the same for a name in every build and on every machine.
constexpr std::uint64_t hash_name(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char letter : name) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3U;
  return hash;
}

// The stream of one key. Values meant for one rank alone put `rank` + 1 into `who`; shared ones leave it 0.
class Philox {
 public:
  using Block = std::array<std::uint32_t, 4>;

  Philox(std::uint64_t seed, std::string_view parameter, std::uint64_t step, Purpose purpose,
         std::uint32_t who = 0) {
    for (const std::uint64_t part : {seed, hash_name(parameter), step, static_cast<std::uint64_t>(purpose),
                                     static_cast<std::uint64_t>(who)}) {
      key_ = mix(key_ ^ part);
    }
  }

  // For kernels that run the rounds on many counters at once.
  std::array<std::uint32_t, 2> key() const {
    return {static_cast<std::uint32_t>(key_), static_cast<std::uint32_t>(key_ >> 32U)};
  }

  // 128 random bits for a counter.
  Block block(std::uint64_t high, std::uint64_t low) const {
    return rounds({static_cast<std::uint32_t>(low), static_cast<std::uint32_t>(low >> 32U),
                   static_cast<std::uint32_t>(high), static_cast<std::uint32_t>(high >> 32U)},
                  key());
  }

  // Uniform whole numbers of 64 bits, and numbers in [0, 1) with 53 bits.
  std::uint64_t bits(std::uint64_t index) const {
    const auto b = block(0, index);
    return (std::uint64_t{b[1]} << 32U) | b[0];
  }
  double uniform(std::uint64_t index) const { return static_cast<double>(bits(index) >> 11U) * 0x1p-53; }

  // Numbers of N(0, 1): index 2 i and 2 i + 1 come from one pair.
  double normal(std::uint64_t index) const { return normal_pair(index / 2)[index % 2]; }

  // Numbers `first`, `first` + 1, ... of N(0, 1).
  template <class Number>
  void fill_normal(std::span<Number> out, std::uint64_t first = 0) const {
    std::array<double, 2> pair{};
    for (std::uint64_t i = first; i < first + out.size(); ++i) {
      if (i % 2 == 0 || i == first) pair = normal_pair(i / 2);
      out[i - first] = static_cast<Number>(pair[i % 2]);
    }
  }

  // The ten rounds themselves, public for the published test vectors and for kernels.
  ACP_HOST_DEVICE static constexpr Block rounds(Block counter, std::array<std::uint32_t, 2> key) {
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t a = std::uint64_t{0xD2511F53U} * counter[0],
                          b = std::uint64_t{0xCD9E8D57U} * counter[2];
      counter = {static_cast<std::uint32_t>(b >> 32U) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
                 static_cast<std::uint32_t>(a >> 32U) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
      key = {key[0] + 0x9E3779B9U, key[1] + 0xBB67AE85U};
    }
    return counter;
  }

 private:
  // Finaliser of splitmix64: every bit of the input moves every bit of the result.
  static constexpr std::uint64_t mix(std::uint64_t x) {
    x += 0x9E3779B97F4A7C15U;
    x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
    return x ^ (x >> 31U);
  }

  // Marsaglia's polar method. It needs a logarithm only, and that one is our own: libm's last bit depends on
  // its version and on the processor, but ranks on unlike machines must draw the same.
  std::array<double, 2> normal_pair(std::uint64_t index) const {
    for (std::uint64_t attempt = 1;; ++attempt) {
      const auto b = block(attempt, index);
      const double u = signed_unit(b[0], b[1]), v = signed_unit(b[2], b[3]), s = u * u + v * v;
      if (s <= 0 || s >= 1) continue;
      const double scale = std::sqrt(-2 * logarithm(s) / s);
      return {u * scale, v * scale};
    }
  }

  // In (-1, 1).
  static double signed_unit(std::uint32_t low, std::uint32_t high) {
    const auto bits = ((std::uint64_t{high} << 32U) | low) >> 11U;
    return (static_cast<double>(bits) + 0.5) * 0x1p-52 - 1;
  }

  // ln(x) of a normal positive x: 2 atanh((m - 1) / (m + 1)) + e ln 2 with m in [sqrt(1/2), sqrt(2)).
  static double logarithm(double x) {
    int exponent = 0;
    double m = std::frexp(x, &exponent);
    if (m < 0.70710678118654752440) {
      m *= 2;
      --exponent;
    }
    const double z = (m - 1) / (m + 1), square = z * z;
    double sum = 0;
    for (int term = 21; term >= 1; term -= 2) sum = sum * square + 1.0 / term;
    return 2 * z * sum + exponent * 0.69314718055994530942;
  }

  std::uint64_t key_ = 0;
};

}  // namespace acp
