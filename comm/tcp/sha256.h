// SHA-256 and HMAC (FIPS 180-4, RFC 2104): how peers prove that they know the secret without sending it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace acp::tcp {

using Digest = std::array<std::uint8_t, 32>;

Digest sha256(std::string_view message);
Digest hmac_sha256(std::string_view key, std::string_view message);

// In a time that does not depend on where they differ.
bool equal(const Digest& a, const Digest& b);

// The bytes as they are, and as lower-case hexadecimal digits.
std::string to_bytes(const Digest& digest);
std::string to_hex(std::string_view bytes);

// `n` bytes from the system's generator.
std::string random_bytes(std::size_t n);

}  // namespace acp::tcp
