// Presets: named jobs, such as those of published experiments.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace acp::programs {

// Option name and value, as on the command line; a flag's value is "true".
using Settings = std::vector<std::pair<std::string, std::string>>;

struct Preset {
  std::string name, summary;
  Settings settings;
};

// As preset_table.cpp has them: "--model mnist --epochs 3", in parts, of which some are several presets'.
struct PresetText {
  const char* name;
  const char* summary;
  std::vector<const char*> options;
};
std::vector<PresetText> preset_texts();

// In alphabetical order.
const std::vector<Preset>& presets();

// ConfigError names the known ones and the nearest.
const Preset& find_preset(const std::string& name);

}  // namespace acp::programs
