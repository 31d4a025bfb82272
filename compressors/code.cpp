// Parts and checks of quantisers' codes; the quantiser's default form of error feedback.
#include "compressors/code.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "comm/error.h"
#include "compressors/codec.h"

namespace acp {

void Quantiser::encode_and_keep(std::span<float> y, const Block& block, std::span<std::byte> code) {
  encode(y, block, code);
  std::vector<float> decoded(y.size());
  decode(code, decoded);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] -= decoded[i];
}

namespace code {
namespace {

std::string about(std::string_view method) {
  return "code of " + std::string(method) + ": ";
}

}  // namespace

static_assert(std::endian::native == std::endian::little);

void write(std::span<std::byte> code, std::size_t place, float number) {
  std::memcpy(code.subspan(place, sizeof number).data(), &number, sizeof number);
}

float read(std::span<const std::byte> code, std::size_t place) {
  float number = 0;
  std::memcpy(&number, code.subspan(place, sizeof number).data(), sizeof number);
  return number;
}

void check_size(std::string_view method, std::span<const std::byte> code, std::size_t expected) {
  if (code.size() == expected) return;
  throw DataError(about(method) + std::to_string(code.size()) + " bytes where " + std::to_string(expected) +
                  " are expected");
}

void check_finite(std::string_view method, float number) {
  if (!std::isfinite(number)) throw DataError(about(method) + "a number that is not finite");
}

void check_scale(std::string_view method, float number) {
  if (std::isfinite(number) && number >= 0) return;
  throw DataError(about(method) + "a scale of " + std::to_string(number));
}

void check_padding(std::string_view method, std::span<const std::byte> packed, std::size_t used_bits) {
  auto rest = packed.subspan(std::min(packed.size(), used_bits / 8));
  bool clean = true;
  if (used_bits % 8 != 0 && !rest.empty()) {
    clean = (rest[0] >> (used_bits % 8)) == std::byte{0};
    rest = rest.subspan(1);
  }
  clean = clean && std::ranges::all_of(rest, [](std::byte byte) { return byte == std::byte{0}; });
  if (!clean) throw DataError(about(method) + "bits behind the last value are not 0");
}

void refuse_level(std::string_view method, unsigned level, unsigned largest) {
  throw DataError(about(method) + "level " + std::to_string(level) + ", the largest is " +
                  std::to_string(largest));
}

}  // namespace code
}  // namespace acp
