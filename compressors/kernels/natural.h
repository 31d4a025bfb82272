// Natural compression: sign and power of two. A float's exponent field goes up by one when its fraction, 23
// bits, is greater than a draw.
#pragma once

#include <cstdint>
#include <span>

namespace acp::kernels {

// One draw below 2^23 an element, or the same for all (2^22: to the nearest, ties down).
struct Draws {
  std::span<const std::uint32_t> words;  // random ones, of which the upper 23 bits count; empty: `fixed`
  std::uint32_t fixed = 1U << 22U;
};

// Bits 0 - 6: the rounded exponent field less `lowest`, clamped to 0 .. 127; 0 stands for the number 0. Bit
// 7: the sign; of code 0 only with `signed_zero`.
void natural_codes(std::span<const float> x, int lowest, bool signed_zero, const Draws& draws,
                   std::uint8_t* codes);
void natural_codes_plain(std::span<const float> x, int lowest, bool signed_zero, const Draws& draws,
                         std::uint8_t* codes);
void natural_values(const std::uint8_t* codes, int lowest, std::span<float> out);
void natural_values_plain(const std::uint8_t* codes, int lowest, std::span<float> out);

// The rounded exponent field alone, 0 for subnormals, at most 254.
void natural_exponents(std::span<const float> x, const Draws& draws, std::uint8_t* exponents);
void natural_exponents_plain(std::span<const float> x, const Draws& draws, std::uint8_t* exponents);

}  // namespace acp::kernels
