// What the codes of quantisers consist of, and the checks that a received one must pass.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace acp::code {

// Little-endian float32 at a place of a code.
void write(std::span<std::byte> code, std::size_t place, float number);
float read(std::span<const std::byte> code, std::size_t place);

// DataErrors that name the method: a code of another length; a number that is not finite, or is negative
// where a scale must not be; bits set behind the last of `used_bits`.
void check_size(std::string_view method, std::span<const std::byte> code, std::size_t expected);
void check_finite(std::string_view method, float number);
void check_scale(std::string_view method, float number);
void check_padding(std::string_view method, std::span<const std::byte> packed, std::size_t used_bits);
[[noreturn]] void refuse_level(std::string_view method, unsigned level, unsigned largest);

}  // namespace acp::code
