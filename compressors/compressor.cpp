// What a compressor does unless it says otherwise.
#include "compressors/compressor.h"

#include <algorithm>

#include "comm/error.h"

namespace acp {

void Compressor::set_levels(std::span<const Level> levels) {
  if (std::ranges::all_of(levels, [](const Level& level) { return level && std::isnan(*level); })) return;
  throw ConfigError(
      "this compressor has no rank, ratio or bits that a policy could set per layer; take policy \"uniform\" "
      "or "
      "another compressor");
}

void Compressor::set_probes(std::span<const double> ratios) {
  if (ratios.empty()) return;
  throw ConfigError("this compressor chooses no elements, so a policy cannot ask what others would keep");
}

}  // namespace acp
