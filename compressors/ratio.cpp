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
  is_set_ = true;
}

namespace {

std::int64_t round_count(std::int64_t n, double wanted, bool up) {
  const auto k = static_cast<std::int64_t>(up ? std::ceil(wanted) : std::trunc(wanted));
  return std::clamp<std::int64_t>(k, n > 0 ? 1 : 0, n);
}

}  // namespace

std::int64_t kept_count(std::int64_t n, double ratio, bool up) {
  // Factors are whole numbers or have a few binary places; 1 / ratio is off by a rounding or two.
  constexpr double places = 1 << 16, roundings = 4e-16;
  const double factor = 1 / ratio, near = std::nearbyint(factor * places) / places;
  const bool from_factor = std::abs(factor - near) <= roundings * near;
  return round_count(n, from_factor ? static_cast<double>(n) / near : static_cast<double>(n) * ratio, up);
}

std::int64_t Ratio::count(std::int64_t n) const {
  return is_set_ ? kept_count(n, ratio_, up_) : round_count(n, static_cast<double>(n) * ratio_, up_);
}

void take_values(std::span<const float> y, Selection& chosen) {
  chosen.values.resize(chosen.indices.size());
  for (std::size_t i = 0; i < chosen.indices.size(); ++i) chosen.values[i] = y[chosen.indices[i]];
}

}  // namespace acp
