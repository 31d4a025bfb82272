// A 64-bit hash of bytes, for agreement of ranks and integrity of files (not against an adversary).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace acp {

// FNV-1a over 8-byte words (little-endian, the last one padded with zeros), each followed by a mixing shift,
// so that high bits reach low ones; the length goes in at the end. The same on every machine.
class Hash {
 public:
  Hash& add(std::span<const std::byte> bytes) {
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) mix(word(bytes.data() + i, 8));
    if (i < bytes.size()) mix(word(bytes.data() + i, bytes.size() - i));
    mix(bytes.size());
    return *this;
  }
  Hash& add(std::string_view text) { return add(std::as_bytes(std::span(text.data(), text.size()))); }
  std::uint64_t value() const { return state_; }

 private:
  static std::uint64_t word(const std::byte* data, std::size_t n) {
    std::uint64_t w = 0;
    std::memcpy(&w, data, n);
    return w;
  }
  void mix(std::uint64_t w) {
    state_ = (state_ ^ w) * 1099511628211ULL;
    state_ ^= state_ >> 32;
  }
  std::uint64_t state_ = 14695981039346656037ULL;
};

// 16 hexadecimal digits.
inline std::string to_hex(std::uint64_t value) {
  std::string text(16, '0');
  for (std::size_t i = 16; i-- > 0; value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

}  // namespace acp
