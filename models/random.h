// Random numbers from integers alone: the same sequence on every machine and with every standard library.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace acp::models {

// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). Keys make
// independent sequences, so any sample can be drawn without the ones before it.
class Random {
 public:
  explicit Random(std::initializer_list<std::uint64_t> keys) {
    for (const std::uint64_t key : keys) state_ = mix(state_ + 0x9e3779b97f4a7c15U) ^ key;
    state_ = mix(state_);
  }

  std::uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15U); }

  // 0 .. bound-1; bound > 0. The bias of the modulus is below bound / 2^64.
  std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(bound));
  }

  // low .. high, both included.
  std::int64_t between(std::int64_t low, std::int64_t high) { return low + below(high - low + 1); }

 private:
  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  std::uint64_t state_ = 0;
};

}  // namespace acp::models
