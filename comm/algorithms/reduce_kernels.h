// acc = acc (+, min, max) x, element by element, for the types that ranks add up.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>

#include "comm/collective.h"

namespace acp {

// `n` elements of `type` (float32, float64, int32, int64, uint8); `average` adds. ConfigError names another
// type.
void reduce_into(std::byte* acc, const std::byte* x, std::int64_t n, at::ScalarType type, ReduceOp op);

// Divides `n` floating elements by `divisor`.
void divide(std::byte* x, std::int64_t n, at::ScalarType type, int divisor);

// sums[i] += float(x[i]) for half or bfloat16 x; and back with one rounding.
void add_half(float* sums, const std::byte* x, std::int64_t n, at::ScalarType type);
void round_half(std::byte* x, const float* sums, std::int64_t n, at::ScalarType type);

}  // namespace acp
