// Many random words of a Philox key at once.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace acp::kernels {

// Words `first`, `first` + 1, ... of the key. Word 32 g + 8 w + c is word w of counter 8 g + c, so that 8
// counters side by side in registers give 32 words in their order.
void random_words(std::array<std::uint32_t, 2> key, std::uint64_t first, std::span<std::uint32_t> out);
void random_words_plain(std::array<std::uint32_t, 2> key, std::uint64_t first, std::span<std::uint32_t> out);

}  // namespace acp::kernels
