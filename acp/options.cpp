// Checks of the settings, and the names of algorithms.
#include "acp/options.h"

#include <cmath>

#include "comm/error.h"

namespace acp {

Algorithm parse_algorithm(const std::string& name) {
  if (name == "auto") return Algorithm::automatic;
  if (name == "ring") return Algorithm::ring;
  if (name == "native") return Algorithm::native;
  throw ConfigError("unknown algorithm \"" + name + "\"; known: auto, native, ring");
}

std::string to_string(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::ring:
      return "ring";
    case Algorithm::native:
      return "native";
    case Algorithm::automatic:
      break;
  }
  return "auto";
}

Options& Options::algorithm(const std::string& name) {
  return algorithm(parse_algorithm(name));
}

void Options::check() const {
  if (!(fusion_mb_ >= 0) || std::isinf(fusion_mb_)) {
    throw ConfigError("fusion_mb is " + std::to_string(fusion_mb_) +
                      "; it must be 0 (no fusion) or more megabytes");
  }
  if (!(clip_local_ >= 0)) {
    throw ConfigError("clip_local is " + std::to_string(clip_local_) +
                      "; it must be 0 (off) or a norm above 0");
  }
  if (backward_passes_ < 1) {
    throw ConfigError("backward_passes_per_step is " + std::to_string(backward_passes_) +
                      "; it must be at least 1");
  }
  if (window_ < 1) throw ConfigError("window is " + std::to_string(window_) + "; it must be at least 1");
  if (policy_ != "uniform" && !policy_.empty()) {
    throw ConfigError("unknown policy \"" + policy_ + "\"; known: uniform");
  }
}

}  // namespace acp
