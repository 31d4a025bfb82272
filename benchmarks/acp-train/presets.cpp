// See presets.h.
#include "benchmarks/acp-train/presets.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <sstream>

#include "benchmarks/common/command_line.h"
#include "comm/error.h"
#include "compressors/text.h"

namespace acp::programs {

namespace {

// "--a x --b" as {a, x}, {b, true}, of all parts.
Settings settings_of(const std::vector<const char*>& parts) {
  Settings settings;
  for (const auto* part : parts) {
    std::istringstream words(part);
    for (std::string word; words >> word;) {
      if (word.starts_with("--")) {
        settings.emplace_back(word.substr(2), "true");
      } else {
        settings.back().second = word;
      }
    }
  }
  return settings;
}

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = [] {
    std::vector<Preset> made;
    for (const auto& text : preset_texts()) {
      made.push_back({text.name, text.summary, settings_of(text.options)});
    }
    std::ranges::sort(made, {}, &Preset::name);
    return made;
  }();
  return all;
}

const Preset& find_preset(const std::string& name) {
  std::vector<std::string> names;
  std::string dashed = name;
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  for (const auto& preset : presets()) {
    if (preset.name == dashed) return preset;
    names.push_back(preset.name);
  }
  throw ConfigError(
      fmt::format("--preset {}: unknown{}; known: {}", name, suggestion(dashed, names), join(names)));
}

}  // namespace acp::programs
