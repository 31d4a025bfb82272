// Accordion: light compression in critical regimes, where a layer's gradient norm changes fast, strong
// compression elsewhere.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "adaptive/policy.h"

namespace acp {

// Which layers are critical, by their norms at two consecutive decisions (Agarwal et al., Accordion, MLSys
// 2021, algorithm 1): |before - now| / before of at least `threshold`; all of them at the first decision;
// with nothing before; and where a norm is not finite, which is then forgotten.
class CriticalRegimes {
 public:
  explicit CriticalRegimes(double threshold, bool strict = false) : threshold_(threshold), strict_(strict) {}

  std::vector<bool> decide(const std::vector<double>& norms);

  const std::vector<double>& before() const { return before_; }
  void set_before(std::vector<double> norms) { before_ = std::move(norms); }

 private:
  double threshold_;
  bool strict_;  // critical only above the threshold (the reducers of rethinking-sparsification)
  std::vector<double> before_;
};

// A step's average costs a pass over the window.
inline constexpr std::int64_t longest_average = 100'000;

// The mean of the last `window` values, each weighted 1 - alpha of the next (GraVAC); 0 until there are so
// many.
class MovingAverage {
 public:
  MovingAverage(std::size_t window, double alpha);

  double push(double x);  // the value from then on
  double value() const;
  bool full() const { return values_.size() == weights_.size(); }
  void clear() { values_.clear(); }
  const std::vector<double>& values() const { return values_; }  // oldest first
  void set_values(std::vector<double> values) { values_ = std::move(values); }

 private:
  std::vector<double> weights_;  // of the oldest first
  double sum_of_weights_ = 0;
  std::vector<double> values_;
};

// GraVAC's form for a whole model: whether the smoothed norm has changed by at least `threshold` since the
// last step.
class BurstDetector {
 public:
  BurstDetector(std::size_t window, double alpha, double threshold)
      : average_(window, alpha), threshold_(threshold) {}
  bool push(double norm);  // true: a burst, so compress lightly

  MovingAverage& average() { return average_; }
  const MovingAverage& average() const { return average_; }
  double before = 0;

 private:
  MovingAverage average_;
  double threshold_;
};

// Accordion's settings of two levels for a compressor, each the default where it is "auto"; ConfigError names
// the key.
struct TwoLevels {
  double high = 0, low = 0;
};
TwoLevels accordion_levels(const Values& values, const PolicySetting& setting, const TwoLevels& defaults);

// Key `threshold`.
double accordion_threshold(const Values& values, double otherwise);

}  // namespace acp
