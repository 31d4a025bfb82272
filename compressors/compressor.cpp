// What a compressor does unless it says otherwise.
#include "compressors/compressor.h"

#include "comm/error.h"

namespace acp {

void Compressor::set_levels(std::span<const Level>) {
  throw ConfigError(
      "this compressor has no rank, ratio or bits that a policy could set per layer; take policy \"uniform\" "
      "or "
      "another compressor");
}

}  // namespace acp
