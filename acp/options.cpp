// Checks of the settings, and the names of algorithms.
#include "acp/options.h"

#include <algorithm>
#include <array>
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

Algorithm parse_algorithm(const std::string& name) {
  const std::array<std::string, 3> known{"auto", "native", "ring"};
  if (name == known[0]) return Algorithm::automatic;
  if (name == known[1]) return Algorithm::native;
  if (name == known[2]) return Algorithm::ring;
  const std::string near = nearest(name, known);
  throw ConfigError("unknown algorithm \"" + name + "\"" +
                    (near.empty() ? "" : ", did you mean \"" + near + "\"?") + "; known: auto, native, ring");
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
    refuse("fusion_mb", fusion_mb_, "a number of megabytes from 0 (one tensor in a message)");
  }
  if (!std::isfinite(clip_local_) || clip_local_ < 0) refuse("clip_local", clip_local_, "a norm, or 0 (off)");
  if (backward_passes_ < 1) refuse("backward_passes_per_step", backward_passes_, "at least 1");
  if (window_ < 1) refuse("window", window_, "at least 1");
}

}  // namespace acp
