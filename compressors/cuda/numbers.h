// Bits of numbers, and 16-bit numbers, by whole-number arithmetic that is the same on the host.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "compressors/host_device.h"

namespace acp::device {

ACP_HOST_DEVICE inline std::uint32_t as_bits(float x) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(x);
#else
  return std::bit_cast<std::uint32_t>(x);
#endif
}

ACP_HOST_DEVICE inline float as_float(std::uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

// As kernels/select.h has it.
ACP_HOST_DEVICE inline std::uint32_t magnitude(float x) {
  return as_bits(x) & 0x7fffffffU;
}

// a * b + c, rounded once: sums that may differ from the CPU's in the last bits.
ACP_HOST_DEVICE inline float fused(float a, float b, float c) {
  return std::fma(a, b, c);
}
ACP_HOST_DEVICE inline double fused(double a, double b, double c) {
  return std::fma(a, b, c);
}

struct Half {
  std::uint16_t bits;
};
struct Brain {  // bfloat16
  std::uint16_t bits;
};

ACP_HOST_DEVICE inline float to_float(float x) {
  return x;
}
ACP_HOST_DEVICE inline float to_float(Brain x) {
  return as_float(static_cast<std::uint32_t>(x.bits) << 16U);
}
ACP_HOST_DEVICE inline float to_float(Half x) {
  const std::uint32_t sign = (x.bits & 0x8000U) << 16U, rest = x.bits & 0x7fffU;
  if (rest >= 0x7c00U) return as_float(sign | 0x7f800000U | (rest & 0x3ffU) << 13U);
  // Subnormals are whole multiples of 2^-24.
  if (rest < 0x400U) return as_float(sign | as_bits(static_cast<float>(rest) * 0x1p-24F));
  return as_float(sign | ((rest << 13U) + 0x38000000U));
}

ACP_HOST_DEVICE inline void from_float(float x, float& to) {
  to = x;
}

// To the nearest, ties to even; NaN stays NaN, what is too large becomes infinite.
ACP_HOST_DEVICE inline void from_float(float x, Brain& to) {
  const std::uint32_t bits = as_bits(x);
  const bool nan = (bits & 0x7fffffffU) > 0x7f800000U;
  to.bits = static_cast<std::uint16_t>(nan ? 0x7fc0U : (bits + 0x7fffU + (bits >> 16U & 1U)) >> 16U);
}
ACP_HOST_DEVICE inline void from_float(float x, Half& to) {
  const std::uint32_t bits = as_bits(x), sign = bits >> 16U & 0x8000U, rest = bits & 0x7fffffffU;
  std::uint32_t half = 0;
  if (rest > 0x7f800000U) {
    half = 0x7e00U;
  } else if (rest >= 0x477ff000U) {  // 65520, half way to what would be the next
    half = 0x7c00U;
  } else if (rest < 0x38800000U) {
    // Below 2^-14: adding 0.5 leaves a multiple of 2^-24, rounded by the hardware, in the lowest bits.
    half = as_bits(as_float(rest) + 0.5F) - 0x3f000000U;
  } else {
    half = (rest - 0x38000000U + 0xfffU + (rest >> 13U & 1U)) >> 13U;
  }
  to.bits = static_cast<std::uint16_t>(sign | half);
}

}  // namespace acp::device
