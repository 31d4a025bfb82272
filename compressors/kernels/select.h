// Selection by magnitude: the passes over memory that sparsifiers are made of.
//
// Magnitudes are compared as whole numbers: the bits of a float without its sign order the finite values as
// their magnitudes do, so a comparison costs no floating-point exception cases and ties are exact.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace acp::kernels {

constexpr std::uint32_t magnitude(float x) {
  return std::bit_cast<std::uint32_t>(x) & 0x7fffffffU;
}
constexpr std::uint32_t infinite = 0x7f800000U;  // this magnitude and greater ones are not finite

// Number of elements whose magnitude is at least `least`.
std::size_t count(std::span<const float> x, std::uint32_t least);

// Appends the indices of elements whose magnitude is at least `least`, ascending. False, with nothing of use
// appended, if there are more than `most`.
bool collect(std::span<const float> x, std::uint32_t least, std::size_t most,
             std::vector<std::uint32_t>& indices);

// Appends the indices of the k elements of largest magnitude, ascending; among equals the lower indices.
// `values` becomes x at these.
void top_k(std::span<const float> x, std::size_t k, std::vector<std::uint32_t>& indices,
           std::vector<float>& values);

// The k-th largest of these magnitudes (k from 1); reorders them.
std::uint32_t kth_largest(std::span<std::uint32_t> magnitudes, std::size_t k);

std::uint32_t largest(std::span<const float> x);  // magnitude; 0 for none

}  // namespace acp::kernels
