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

void Compressor::set_second_moments(const std::string& parameter, const at::Tensor&) {
  throw ConfigError("second moments of parameter " + parameter +
                    " were given to a compressor that has no use for them; \"variance\" has");
}

}  // namespace acp
