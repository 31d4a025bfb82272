// How Catch shows bytes when a comparison fails. Without it Catch takes libtorch's operator<< for vectors,
// which does not compile for them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tests/catch.h"

namespace Catch {
template <>
struct StringMaker<std::vector<std::byte>> {
  static std::string convert(const std::vector<std::byte>& bytes) {
    std::string hex;
    for (const auto byte : bytes) {
      hex += "0123456789abcdef"[std::to_integer<unsigned>(byte) >> 4U];
      hex += "0123456789abcdef"[std::to_integer<unsigned>(byte) & 15U];
    }
    return hex;
  }
};
}  // namespace Catch
