// The kept fraction of sparsifiers.
#include "compressors/ratio.h"

#include <algorithm>
#include <cmath>

#include "comm/error.h"

namespace acp {

std::vector<KeyInfo> ratio_keys(std::string default_ratio) {
  return {
      {"ratio", std::move(default_ratio), "fraction of the elements to keep, above 0 up to 1; at least one"},
      {"rounding", "down", "of n x ratio to a whole number: down or up"}};
}

Ratio::Ratio(const Values& values)
    : ratio_(values.number("ratio", 1e-9, 1)),
      up_(values.choice("rounding", std::vector<std::string>{"down", "up"}) == "up") {}

void Ratio::set(double ratio) {
  if (!(ratio > 0 && ratio <= 1)) {
    throw ConfigError("a policy set ratio " + std::to_string(ratio) + "; it must be above 0 and at most 1");
  }
  ratio_ = ratio;
}

std::int64_t Ratio::count(std::int64_t n) const {
  const double wanted = static_cast<double>(n) * ratio_;
  const auto k = static_cast<std::int64_t>(up_ ? std::ceil(wanted) : std::trunc(wanted));
  return std::clamp<std::int64_t>(k, n > 0 ? 1 : 0, n);
}

void take_values(std::span<const float> y, Selection& chosen) {
  chosen.values.resize(chosen.indices.size());
  for (std::size_t i = 0; i < chosen.indices.size(); ++i) chosen.values[i] = y[chosen.indices[i]];
}

}  // namespace acp
