// See lr_schedule.h, which has the formulas.
#include "benchmarks/common/lr_schedule.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "benchmarks/common/command_line.h"
#include "comm/error.h"
#include "compressors/text.h"

namespace acp::programs {

namespace {

constexpr auto most = std::numeric_limits<std::int64_t>::max();
constexpr auto infinity = std::numeric_limits<double>::infinity();

const LrScheduleInfo& find(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& info : lr_schedules()) {
    if (info.name == name) return info;
    names.push_back(info.name);
  }
  throw ConfigError(fmt::format("unknown learning-rate schedule \"{}\"{}; known: {}", name,
                                suggestion(name, names), join(names)));
}

MethodSpec single(std::string_view spec) {
  auto parts = parse_spec(spec);
  if (parts.size() != 1) {
    throw ConfigError(fmt::format("learning-rate schedule \"{}\": schedules do not compose with +", spec));
  }
  std::replace(parts.front().name.begin(), parts.front().name.end(), '_', '-');
  return parts.front();
}

void require_increasing(const std::vector<double>& values, const std::string& spec) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]) || values[i] < 0 || (i > 0 && values[i] <= values[i - 1])) {
      throw ConfigError(fmt::format(
          "learning-rate schedule \"{}\": `at` must be increasing epochs, 0 or more, as in at=100/150",
          spec));
    }
  }
}

}  // namespace

const std::vector<LrScheduleInfo>& lr_schedules() {
  static const std::vector<LrScheduleInfo> all = {
      {"constant", "lr", {}},
      {"cosine",
       "lr (final + (1 - final) (1 + cos(pi t/T)) / 2), per step",
       {{"final", "0", "the last rate as a fraction of the first, 0 to 1"}}},
      {"exponential", "lr gamma^epoch", {{"gamma", "0.95", "factor per epoch, above 0 to 1"}}},
      {"inverse",
       "lr / (1 + decay max(0, epoch + 1 - hold))",
       {{"decay", "0", "0 or more"}, {"hold", "6", "epochs at the full rate"}}},
      {"inverse-sqrt",
       "lr sqrt(w / max(step + 1, w)), w = warm-up steps, else `from`; per step",
       {{"from", "1", "steps at the full rate when there is no warm-up"}}},
      {"linear",
       "lr (1 - (1 - final) t/T), per step",
       {{"final", "0", "the last rate as a fraction of the first, 0 to 1"}}},
      {"milestones",
       "lr gamma^(number of `at` reached)",
       {{"at", "100/150", "epochs, increasing"}, {"gamma", "0.1", "factor, above 0 to 1"}}},
      {"piecewise",
       "straight lines through (at, value); per step",
       {{"at", "0/5/30", "epochs, increasing"},
        {"value", "0/0.4/0", "rates at these epochs (--lr is not used)"}}},
      {"plateau",
       "times gamma after more than `patience` evaluations without progress",
       {{"gamma", "0.1", "factor, above 0 to 1"},
        {"patience", "3", "evaluations without progress that are let pass"},
        {"threshold", "0.0001", "progress is a loss below best (1 - threshold)"}}},
      {"step",
       "lr gamma^floor(epoch / every)",
       {{"every", "30", "epochs"}, {"gamma", "0.1", "factor, above 0 to 1"}}}};
  return all;
}

LrSchedule::LrSchedule(std::string_view spec, LrRun run) : run_(run) {
  const auto parsed = single(spec);
  const auto& info = find(parsed.name);
  const Values values({info.name, parsed.values}, info.keys);
  name_ = info.name;
  text_ = MethodSpec{info.name, parsed.values}.to_string();
  const auto has = [&](std::string_view key) {
    return std::any_of(info.keys.begin(), info.keys.end(),
                       [&](const KeyInfo& known) { return known.name == key; });
  };
  if (has("gamma")) gamma_ = values.number("gamma", 1e-12, 1);
  if (has("final")) final_ = values.number("final", 0, 1);
  if (has("decay")) decay_ = values.number("decay", 0, infinity);
  if (has("threshold")) threshold_ = values.number("threshold", 0, 0.9);
  if (has("every")) every_ = values.integer("every", 1, most);
  if (has("hold")) hold_ = values.integer("hold", 0, most);
  if (has("patience")) patience_ = values.integer("patience", 0, most);
  if (has("from")) from_ = values.integer("from", 1, most);
  if (has("at")) require_increasing(at_ = values.list("at"), text_);
  if (has("value")) {
    value_ = values.list("value");
    const bool negative = std::any_of(value_.begin(), value_.end(), [](double v) { return !(v >= 0); });
    if (value_.size() != at_.size() || value_.empty() || negative) {
      throw ConfigError(
          fmt::format("learning-rate schedule \"{}\": {} epochs in `at` and {} in `value`; one rate of at "
                      "least 0 for each epoch",
                      text_, at_.size(), value_.size()));
    }
  }
  run_.steps_per_epoch = std::max<std::uint64_t>(run_.steps_per_epoch, 1);
}

bool LrSchedule::listens() const {
  return name_ == "plateau";
}

bool LrSchedule::uses_base_rate() const {
  return name_ != "piecewise";
}

double LrSchedule::at(std::uint64_t step) const {
  const double base = uses_base_rate() ? run_.lr : 1;
  const bool warm = step >= run_.warmup_steps;
  const double ramp = warm ? 1 : static_cast<double>(step + 1) / static_cast<double>(run_.warmup_steps);
  return base * factor(step) * ramp;
}

double LrSchedule::factor(std::uint64_t step) const {
  const std::uint64_t whole_epochs = step / run_.steps_per_epoch;
  const auto epoch = static_cast<double>(whole_epochs);
  if (name_ == "step") return std::pow(gamma_, std::floor(epoch / static_cast<double>(every_)));
  if (name_ == "exponential") return std::pow(gamma_, epoch);
  if (name_ == "milestones") {
    return std::pow(gamma_, std::count_if(at_.begin(), at_.end(), [&](double at) { return at <= epoch; }));
  }
  if (name_ == "inverse") return 1 / (1 + decay_ * std::max(0.0, epoch + 1 - static_cast<double>(hold_)));
  if (name_ == "inverse-sqrt") {
    const auto w =
        static_cast<double>(run_.warmup_steps > 0 ? run_.warmup_steps : static_cast<std::uint64_t>(from_));
    return std::sqrt(w / std::max(static_cast<double>(step + 1), w));
  }
  if (name_ == "plateau") return reduction_;
  if (name_ == "piecewise") {
    return interpolated(static_cast<double>(step) / static_cast<double>(run_.steps_per_epoch));
  }
  if (name_ == "linear" || name_ == "cosine") {
    const auto done = step > run_.warmup_steps ? step - run_.warmup_steps : 0;
    const auto all = run_.steps > run_.warmup_steps ? run_.steps - run_.warmup_steps : 1;
    const double t = std::min(1.0, static_cast<double>(done) / static_cast<double>(all));
    const double shape = name_ == "linear" ? 1 - t : (1 + std::cos(std::numbers::pi * t)) / 2;
    return final_ + (1 - final_) * shape;
  }
  return 1;
}

double LrSchedule::interpolated(double epoch) const {
  if (epoch <= at_.front()) return value_.front();
  for (std::size_t i = 1; i < at_.size(); ++i) {
    if (epoch < at_[i]) {
      return value_[i - 1] + (value_[i] - value_[i - 1]) * (epoch - at_[i - 1]) / (at_[i] - at_[i - 1]);
    }
  }
  return value_.back();
}

void LrSchedule::evaluated(double loss) {
  if (name_ != "plateau") return;
  if (loss < best_ * (1 - threshold_)) {
    best_ = loss;
    bad_ = 0;
  } else if (++bad_ > patience_) {
    reduction_ *= gamma_;
    bad_ = 0;
  }
}

std::vector<double> LrSchedule::state() const {
  if (name_ != "plateau") return {};
  return {reduction_, best_, static_cast<double>(bad_)};
}

void LrSchedule::load_state(const std::vector<double>& state) {
  if (name_ != "plateau" || state.size() != 3) return;
  reduction_ = state[0];
  best_ = state[1];
  bad_ = static_cast<std::int64_t>(state[2]);
}

}  // namespace acp::programs
