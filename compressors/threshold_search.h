// Thresholds that are estimated, not sorted for: DGC, RedSync, SIDCo.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace acp {

// The elements of one side of a threshold, as magnitudes (kernels/select.h): those >= `least`.
struct Cut {
  std::uint32_t least = 1;
  std::size_t count = 0;
};

// DGC: the threshold that keeps `ratio` of the sampled elements x[positions], corrected up to ten times until
// 0.7 to 1.3 times n ratio elements reach it.
Cut dgc_threshold(std::span<const float> x, double ratio, std::span<const std::uint32_t> positions);

// RedSync: bisection between mean and largest magnitude until k to 2 k elements exceed it; nothing if it does
// not get there. `literal` searches as published: at most three tests, and the last one counts.
std::optional<Cut> redsync_threshold(std::span<const float> x, std::size_t k, bool literal);

// SIDCo with exponential fits: `stages` of them, 0 = as many as the ratio needs. Nothing if all elements are
// zero.
std::optional<Cut> sidco_threshold(std::span<const float> x, double ratio, std::int64_t stages);

}  // namespace acp
