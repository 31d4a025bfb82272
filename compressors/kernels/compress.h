// The one pass over memory of a selection by magnitude.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace acp::kernels {

// Writes `base` + i for every element i whose magnitude (select.h) is at least `least`, ascending; returns
// how many. `indices` has room for x.size() numbers. The fastest form that the processor has.
std::size_t compress(std::span<const float> x, std::uint32_t least, std::uint32_t base,
                     std::uint32_t* indices);

// The form that every processor has, and what the others are tested against.
std::size_t compress_plain(std::span<const float> x, std::uint32_t least, std::uint32_t base,
                           std::uint32_t* indices);

// All forms that this processor has, for their test.
using CompressForm = std::size_t (*)(std::span<const float>, std::uint32_t, std::uint32_t, std::uint32_t*);
std::vector<CompressForm> compress_forms();

}  // namespace acp::kernels
