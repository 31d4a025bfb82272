// Presets: named jobs, such as those of published experiments.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace acp::programs {

// Option name and value, as on the command line.
using Settings = std::vector<std::pair<std::string, std::string>>;

struct Preset {
  std::string name, summary;
  Settings settings;
};

// In alphabetical order.
const std::vector<Preset>& presets();

// ConfigError names the known ones and the nearest.
const Preset& find_preset(const std::string& name);

}  // namespace acp::programs
