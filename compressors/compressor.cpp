// What methods without a knob say to a policy.
#include "compressors/compressor.h"

#include "comm/error.h"

namespace acp {

void Compressor::set_levels(std::span<const Level>) {
  throw ConfigError("this compressor has no rank, ratio or bits that a policy could choose");
}

}  // namespace acp
