// Learning-rate schedules by specification: "step:every=30,gamma=0.1".
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "compressors/spec.h"

namespace acp::programs {

// What a schedule has to know of the run. A step is one update of the parameters.
struct LrRun {
  double lr = 0.1;          // the base rate, --lr
  std::uint64_t steps = 1;  // of the whole run
  std::uint64_t steps_per_epoch = 1;
  std::uint64_t warmup_steps = 0;  // the rate rises linearly to the schedule's: (step + 1) / warmup_steps
};

// A schedule that the registry knows, with what --help and docs/options.md say of it.
struct LrScheduleInfo {
  std::string name;
  std::string formula;
  std::vector<KeyInfo> keys;
};

// The rate of every step. Epoch e is step / steps_per_epoch (whole, from 0), x the same as a real number; t
// counts the steps after the warm-up, T is how many of these there are. Where a schedule has `final`, it ends
// at final * lr.
//
//   constant                       lr
//   linear:final=0                 lr (1 - (1 - final) t/T)                     per step
//   cosine:final=0                 lr (final + (1 - final) (1 + cos(pi t/T))/2) per step
//   step:every=30,gamma=0.1        lr gamma^floor(e/every)
//   milestones:at=100/150,gamma=.1 lr gamma^(how many of `at` are <= e)
//   exponential:gamma=0.95         lr gamma^e
//   inverse:decay=0,hold=6         lr / (1 + decay max(0, e + 1 - hold))
//   inverse-sqrt:from=1            lr sqrt(w / max(step + 1, w)), w = warm-up steps, else `from`      per
//   step plateau:patience=3,gamma=0.1,threshold=0.0001
//                                  times gamma after more than `patience` evaluations in a row whose loss was
//                                  not below best * (1 - threshold)
//   piecewise:at=0/5/30,value=0/0.4/0   the straight lines through these points of (x, rate); constant
//   outside;
//                                  the values are rates themselves, --lr is not used                   per
//                                  step
class LrSchedule {
 public:
  // ConfigError names an unknown schedule or key (and the nearest), and a value that makes no sense.
  LrSchedule(std::string_view spec, LrRun run);

  // The rate with which step `step` (from 0) updates.
  double at(std::uint64_t step) const;

  // Loss of an evaluation, the same number on all ranks; only `plateau` listens. Lower is better; NaN counts
  // as bad.
  void evaluated(double loss);

  // What `plateau` remembers, for checkpoints; empty for the others.
  std::vector<double> state() const;
  void load_state(const std::vector<double>& state);

  const std::string& spec() const { return text_; }  // normalised
  bool uses_base_rate() const;

 private:
  double factor(std::uint64_t step) const;
  double interpolated(double epoch) const;

  LrRun run_;
  std::string text_, name_;
  double gamma_ = 1, decay_ = 0, final_ = 0, threshold_ = 0;
  std::int64_t every_ = 1, hold_ = 0, patience_ = 0, from_ = 1;
  std::vector<double> at_, value_;

  // plateau
  double reduction_ = 1, best_ = std::numeric_limits<double>::infinity();
  std::int64_t bad_ = 0;  // evaluations in a row without progress
};

// In alphabetical order.
const std::vector<LrScheduleInfo>& lr_schedules();

}  // namespace acp::programs
