// LEGACY's decision functions: the fraction of elements to keep, by a tensor's size and the time of the run.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "adaptive/policy.h"

namespace acp {

enum class RatioBy : std::uint8_t { nothing, size, time, size_and_time };

// A pure function from the option strings; percentages become fractions in (0, 1].
class RatioTable {
 public:
  // `splits`: "1000,100000", whole numbers, ascending; empty = 10000. `compressions`: "50,10,1" in percent, a
  // number per group (one more than splits) or per phase; size_and_time: rows of groups, "50,10,1;10,1,0.1".
  // '/' is read as ','. ConfigError names the key, the rule and what is wrong. `method` begins messages.
  RatioTable(std::string_view method, RatioBy by, std::string_view splits, std::string_view compressions);

  // Of a tensor of n elements at `time` (an epoch, or a step) of a run of `total`: phases are equal real
  // parts of it; beyond the end the last one goes on.
  double ratio(std::int64_t n, std::int64_t time, std::int64_t total) const;
  // Which phase that is, from 0; where ratios depend on the time.
  std::size_t phase(std::int64_t time, std::int64_t total) const;

 private:
  std::size_t group(std::int64_t n) const;

  RatioBy by_;
  std::vector<std::int64_t> splits_;
  std::vector<std::vector<double>> rows_;
};

// The setting that stands for a fraction: the ratio itself; rank = max(1, floor(K n m / (n + m))), at most
// min(n, m); bits = 32 K, rounded, within 2 .. 8. Dense: at 100 %, of vectors (rank), and where a factor
// pair is no smaller.
Level level_of_fraction(double fraction, const Layer& layer, Knob knob);

}  // namespace acp
