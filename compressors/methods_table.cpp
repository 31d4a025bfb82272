// The table of all compressors for docs/compressors.md, made from the registry so that it cannot go stale.
#include "compressors/registry.h"

namespace acp {
namespace {

std::string to_string(Knob knob) {
  switch (knob) {
    case Knob::rank:
      return "rank";
    case Knob::ratio:
      return "ratio";
    case Knob::bits:
      return "bits";
    case Knob::none:
      break;
  }
  return "-";
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

std::string methods_table() {
  std::string text =
      "| compressor | what it does | memory (default first) | set by policies | source |\n| --- | --- | --- "
      "| --- | --- |\n";
  for (const auto* method : methods()) {
    text += "| `" + method->name + "` | " + method->summary + " | " + join(method->memories) + " | " +
            to_string(method->knob) + " | " + method->source + " |\n";
  }
  text += "\n| compressor | key | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const auto* method : methods()) {
    for (const auto& key : method->keys) {
      text += "| `" + method->name + "` | `" + key.name + "` | `" + key.default_value + "` | " + key.help +
              " |\n";
    }
  }
  return text;
}

}  // namespace acp
