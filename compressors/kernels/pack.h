// Values of few bits as dense bytes, and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace acp::kernels {

// Bytes of n values of `bits` bits.
constexpr std::size_t packed_bytes(std::size_t n, int bits) {
  return (n * static_cast<std::size_t>(bits) + 7) / 8;
}

// Signs: bit i % 8 of byte i / 8 is 1 where x[i] >= 0, which holds for -0, too. Bits behind the last are 0.
void pack_signs(std::span<const float> x, std::byte* bits);
void pack_signs_plain(std::span<const float> x, std::byte* bits);

// The same, and y[i] -= what unpack_signs() makes of the bit: error feedback in one pass.
void pack_signs_keep(std::span<float> y, float plus, float minus, std::byte* bits);
void pack_signs_keep_plain(std::span<float> y, float plus, float minus, std::byte* bits);

// out[i] = plus where the bit is 1, else minus.
void unpack_signs(const std::byte* bits, float plus, float minus, std::span<float> out);
void unpack_signs_plain(const std::byte* bits, float plus, float minus, std::span<float> out);

// Levels below 2^bits, bits 1 .. 8: 8 of them in a row are one little-endian whole number of `bits` bytes,
// the first in its lowest bits; the last such number is cut to the bytes that have something.
void pack_levels(std::span<const std::uint8_t> levels, int bits, std::byte* packed);
void pack_levels_plain(std::span<const std::uint8_t> levels, int bits, std::byte* packed);
void unpack_levels(const std::byte* packed, int bits, std::span<std::uint8_t> levels);
void unpack_levels_plain(const std::byte* packed, int bits, std::span<std::uint8_t> levels);

std::uint8_t largest_level(std::span<const std::uint8_t> levels);  // 0 for none

}  // namespace acp::kernels
