// By which rules a regime is critical: see accordion.h.
#include <cmath>
#include <utility>

#include "adaptive/accordion.h"

namespace acp {

std::vector<bool> CriticalRegimes::decide(const std::vector<double>& norms) {
  std::vector<bool> critical;
  const bool first = before_.size() != norms.size();
  if (first) before_.assign(norms.size(), 0.0);
  for (std::size_t k = 0; k < norms.size(); ++k) {
    if (!std::isfinite(norms[k])) {
      critical.push_back(true);
      continue;
    }
    const double before = std::exchange(before_[k], norms[k]);
    if (first || before == 0) {
      critical.push_back(true);
      continue;
    }
    const double change = std::abs(before - norms[k]) / before;
    critical.push_back(strict_ ? change > threshold_ : !(change < threshold_));
  }
  return critical;
}

MovingAverage::MovingAverage(std::size_t window, double alpha) : weights_(window) {
  for (std::size_t i = 0; i < window; ++i) {
    weights_[i] = std::pow(1 - alpha, static_cast<double>(window - 1 - i));
    sum_of_weights_ += weights_[i];
  }
}

double MovingAverage::push(double x) {
  if (full()) values_.erase(values_.begin());
  values_.push_back(x);
  return value();
}

double MovingAverage::value() const {
  if (!full()) return 0;
  double sum = 0;
  for (std::size_t i = 0; i < values_.size(); ++i) sum += weights_[i] * values_[i];
  return sum / sum_of_weights_;
}

bool BurstDetector::push(double norm) {
  if (!std::isfinite(norm)) return true;
  const double now = average_.push(norm);
  const double last = std::exchange(before, now);
  return last > 0 && std::abs(now - last) / last >= threshold_;
}

}  // namespace acp
