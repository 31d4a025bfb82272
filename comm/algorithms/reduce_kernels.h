// Element-wise reductions of the types that ranks add up; the same bits on every machine.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>

#include "comm/collective.h"

namespace acp {

// ConfigError unless elements of `type` can be reduced by `op`: float16, bfloat16, float32, float64, int32,
// int64, uint8; averages of floating types only.
void check_reducible(at::ScalarType type, ReduceOp op);

// acc[i] = acc[i] (+, min, max) x[i] for `n` elements of float32, float64, int32, int64 or uint8; `average`
// adds. Integers wrap around. min and max give NaN where either side is NaN. `acc` and `x` do not overlap.
void reduce_into(std::byte* acc, const std::byte* x, std::int64_t n, at::ScalarType type, ReduceOp op);

// Divides `n` elements of float32 or float64.
void divide(std::byte* x, std::int64_t n, at::ScalarType type, int divisor);

// For float16 and bfloat16: sums[i] = x[i]; sums[i] = sums[i] (+, min, max) x[i]; and back, rounded to
// nearest even.
void widen(float* sums, const std::byte* x, std::int64_t n, at::ScalarType type);
void reduce_widened(float* sums, const std::byte* x, std::int64_t n, at::ScalarType type, ReduceOp op);
void narrow(std::byte* x, const float* sums, std::int64_t n, at::ScalarType type);

}  // namespace acp
