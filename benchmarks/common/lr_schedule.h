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
// The formulas stand with the names in lr_schedules(); those without "per step" change between epochs alone.
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
  bool listens() const;  // to evaluated()

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
