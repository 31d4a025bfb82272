// The table of all compressors for docs/compressors.md, made from the registry so that it cannot go stale.
#include "compressors/registry.h"
#include "compressors/text.h"

namespace acp {
std::string methods_table() {
  std::string text =
      "| compressor | what it does | memory (default first) | set by policies | source |\n| --- | --- | --- "
      "| --- | --- |\n";
  for (const auto* method : methods()) {
    text += "| `" + method->name + "` | " + method->summary + " | " + join(method->memories) + " | " +
            (method->knob == Knob::none ? "-" : knob_name(method->knob)) + " | " + method->source + " |\n";
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
