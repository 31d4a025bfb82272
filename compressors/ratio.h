// The kept fraction that most sparsifiers share.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "compressors/codec.h"
#include "compressors/spec.h"

namespace acp {

// Keys `ratio` and `rounding`.
std::vector<KeyInfo> ratio_keys(std::string default_ratio);

// How many of n elements a policy's fraction keeps, at least one if there are any: n x ratio rounded down or
// up. Of a fraction that stands for a factor (1 / 49), n / factor, so that 98 elements are 2 of 49 and not
// 1.99...
std::int64_t kept_count(std::int64_t n, double ratio, bool up);

// How many of n elements to keep: at least one of a tensor that has any.
class Ratio {
 public:
  explicit Ratio(const Values& values);
  double value() const { return ratio_; }
  void set(double ratio);  // ConfigError unless 0 < ratio <= 1
  std::int64_t count(std::int64_t n) const;

 private:
  double ratio_;
  bool up_;              // ceil(n * ratio), else trunc(n * ratio)
  bool is_set_ = false;  // by a policy
};

// chosen.values = y at chosen.indices.
void take_values(std::span<const float> y, Selection& chosen);

}  // namespace acp
