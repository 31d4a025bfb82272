// Checks of the settings, and the names of algorithms.
#include "acp/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <sstream>

#include "adaptive/policy.h"
#include "comm/error.h"
#include "compressors/names.h"
#include "compressors/registry.h"
#include "compressors/spec.h"

namespace acp {

namespace {

template <class T>
[[noreturn]] void refuse(const char* setting, T value, const char* rule) {
  std::ostringstream text;
  text << "Options::" << setting << " is " << value << "; it must be " << rule;
  throw ConfigError(text.str());
}

void check_policy(const Options& options, const CompressorFactory& factory) {
  const PolicySpec spec(options.policy());
  if (spec.fixed()) return;
  PolicySetting setting;
  setting.epochs = options.epochs();
  setting.steps_per_epoch = options.steps_per_epoch();
  setting.steps = options.steps();
  setting.knob = factory.knob();
  setting.compressor = factory.spec();
  setting.own = factory.knob() == Knob::none ? 0 : factory.own_level();
  setting.by_layer = factory.granularity() == "layer";
  spec.check(setting);
}

}  // namespace

// In the order of the enumeration.
const std::vector<std::string>& algorithm_names() {
  static const std::vector<std::string> names{"auto",     "ring",    "native",
                                              "doubling", "halving", "hierarchical"};
  return names;
}

Algorithm parse_algorithm(const std::string& name) {
  const auto& known = algorithm_names();
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (name == known[i]) return static_cast<Algorithm>(i);
  }
  const std::string near = nearest(name, known);
  std::string list;
  for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
  throw ConfigError("unknown algorithm \"" + name + "\"" +
                    (near.empty() ? "" : ", did you mean \"" + near + "\"?") + "; known: " + list);
}

std::string to_string(Algorithm algorithm) {
  return algorithm_names()[static_cast<std::size_t>(algorithm)];
}

Options& Options::algorithm(const std::string& name) {
  return algorithm(parse_algorithm(name));
}

Options& Options::fusion_mb(const std::string& text) {
  if (text == "auto") return fusion_auto_ = true, *this;
  double mb = 0;
  const auto* const end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, mb);
  if (code != std::errc() || stop != end) {
    throw ConfigError("Options::fusion_mb is \"" + text +
                      "\"; it must be a number of megabytes from 0 (one tensor in a message), or \"auto\"");
  }
  return fusion_mb(mb);
}

void Options::check() const {
  const CompressorFactory checked(compressor_, CompressorOptions{memory_, seed_, granularity_});
  for (const auto& [name, number] :
       {std::pair{"steps_per_epoch", steps_per_epoch_}, {"epochs", epochs_}, {"steps", steps_}}) {
    if (number && *number < 1) refuse(name, *number, "at least 1");
  }
  check_policy(*this, checked);
  const std::array<std::string, 3> policies{"auto", "error", "skip"};
  if (std::ranges::find(policies, nonfinite_) == policies.end()) {
    throw ConfigError("Options::nonfinite: " + unknown_name("answer to NaN", nonfinite_, policies));
  }
  if (!std::isfinite(fusion_mb_) || fusion_mb_ < 0) {
    refuse("fusion_mb", fusion_mb_, "a number of megabytes from 0 (one tensor in a message), or \"auto\"");
  }
  if (!std::isfinite(clip_local_) || clip_local_ < 0) refuse("clip_local", clip_local_, "a norm, or 0 (off)");
  if (backward_passes_ < 1) refuse("backward_passes_per_step", backward_passes_, "at least 1");
  if (window_ < 1) refuse("window", window_, "at least 1");
}

}  // namespace acp
