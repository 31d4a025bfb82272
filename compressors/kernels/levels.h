// Numbers rounded to levels of one byte, and back. With `words` (as many random words as elements) rounding
// is stochastic: a level and the next are taken with the probabilities that make the mean exact, to 2^-24;
// with none it is to the nearest, halves up. Divisions are divisions, so results do not depend on the form.
#pragma once

#include <cstdint>
#include <span>

namespace acp::kernels {

using Words = std::span<const std::uint32_t>;

// From `min` in steps of `unit` > 0: levels 0 .. top; larger ones become top.
void range_levels(std::span<const float> x, float min, float unit, int top, Words words,
                  std::uint8_t* levels);
void range_levels_plain(std::span<const float> x, float min, float unit, int top, Words words,
                        std::uint8_t* levels);
void range_values(const std::uint8_t* levels, float min, float unit, std::span<float> out);
void range_values_plain(const std::uint8_t* levels, float min, float unit, std::span<float> out);

// Magnitudes in steps of norm / top, norm > 0, top <= 127: code top + level for positive ones, top - level
// for negative ones.
void signed_levels(std::span<const float> x, float norm, int top, Words words, std::uint8_t* levels);
void signed_levels_plain(std::span<const float> x, float norm, int top, Words words, std::uint8_t* levels);
void signed_values(const std::uint8_t* levels, float norm, int top, std::span<float> out);
void signed_values_plain(const std::uint8_t* levels, float norm, int top, std::span<float> out);

// More levels than a byte holds, as signed numbers; plain form alone.
void signed_levels_wide(std::span<const float> x, float norm, int top, Words words, std::int16_t* levels);

// Ternary: 1 for + and 2 for -, with probability |x| / scale (1 if that is more), else 0; scale > 0.
void ternary_levels(std::span<const float> x, float scale, Words words, std::uint8_t* levels);
void ternary_levels_plain(std::span<const float> x, float scale, Words words, std::uint8_t* levels);
// Levels are 0, 1 or 2.
void ternary_values(const std::uint8_t* levels, float scale, std::span<float> out);
void ternary_values_plain(const std::uint8_t* levels, float scale, std::span<float> out);

}  // namespace acp::kernels
