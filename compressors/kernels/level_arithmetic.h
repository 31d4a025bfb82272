// The arithmetic of one element of kernels/levels.h and of one word of kernels/pack.h, which a GPU does
// alike.
#pragma once

#include <cstdint>

#include "compressors/host_device.h"

namespace acp::kernels {

inline constexpr float draws = 0x1p24F;  // a word's upper 24 bits are one of so many equally likely numbers

ACP_HOST_DEVICE inline float draw(std::uint32_t word) {
  return static_cast<float>(word >> 8U);
}

// NaN counts as `most`: a level must be an integer even where the step is refused for it later.
ACP_HOST_DEVICE inline float at_most(float x, float most) {
  return x < most ? x : most;
}

// `level` >= 0, perhaps infinite or NaN; the result is at most `top`.
ACP_HOST_DEVICE inline int to_nearest(float level, float top) {
  return static_cast<int>(at_most(level + 0.5F, top));
}
ACP_HOST_DEVICE inline int to_either(float level, float top, std::uint32_t word) {
  level = at_most(level, top);
  const int whole = static_cast<int>(level);
  return whole + (draw(word) < (level - static_cast<float>(whole)) * draws ? 1 : 0);
}

// What a code of signed levels stands for, and one of levels from a minimum on.
ACP_HOST_DEVICE inline float signed_value(int code, float norm, int top) {
  return static_cast<float>(code - top) / static_cast<float>(top) * norm;
}
ACP_HOST_DEVICE inline float range_value(int code, float min, float unit) {
  const float offset = unit * static_cast<float>(code);
  return min + offset;
}

inline constexpr std::uint64_t pairs = 0x00ff00ff00ff00ffU, fours = 0x0000ffff0000ffffU,
                               eights = 0x00000000ffffffffU;

// 8 bytes of q bits each become one number: fields that hold q, 2 q, 4 q bits are joined two by two.
ACP_HOST_DEVICE inline std::uint64_t join(std::uint64_t v, int q) {
  v = (v & pairs) | ((v & ~pairs) >> (8 - q));
  v = (v & fours) | ((v & ~fours) >> (16 - 2 * q));
  return (v & eights) | ((v & ~eights) >> (32 - 4 * q));
}

// What is left in its field at each step of taking apart: 4 q, 2 q and q low bits of every 64, 32, 16.
struct Masks {
  ACP_HOST_DEVICE explicit Masks(int q)
      : four((std::uint64_t{1} << (4 * q)) - 1),
        two(((std::uint64_t{1} << (2 * q)) - 1) * 0x0000000100000001U),
        one(((std::uint64_t{1} << q) - 1) * 0x0001000100010001U) {}
  std::uint64_t four, two, one;
};

ACP_HOST_DEVICE inline std::uint64_t part(std::uint64_t v, int q, const Masks& masks) {
  v = (v & masks.four) | ((v & (masks.four << (4 * q))) << (32 - 4 * q));
  v = (v & masks.two) | ((v & (masks.two << (2 * q))) << (16 - 2 * q));
  return (v & masks.one) | ((v & (masks.one << q)) << (8 - q));
}

}  // namespace acp::kernels
