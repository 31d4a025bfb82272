// `uniform`, `layer-size`, `epoch`, `size-epoch`: the policies of LEGACY.
#include "adaptive/legacy.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "comm/error.h"
#include "compressors/names.h"
#include "compressors/text.h"

namespace acp {
namespace {

template <class Number>
bool read(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

[[noreturn]] void refuse(std::string_view method, const std::string& what) {
  throw ConfigError(std::string(method) + ": " + what);
}

std::vector<std::int64_t> parse_splits(std::string_view method, std::string_view text) {
  if (trim(text).empty()) return {10000};
  std::vector<std::int64_t> splits;
  for (const auto item : split(text, ",/")) {
    std::int64_t number = 0;
    if (!read(item, number) || number < 1) {
      refuse(method, "group_splits=" + std::string(text) + ": " + in_quotes(item) +
                         " is not a whole number of elements from 1");
    }
    if (!splits.empty() && number <= splits.back()) {
      refuse(method, "group_splits=" + std::string(text) + ": the sizes must ascend, and " +
                         std::to_string(number) + " follows " + std::to_string(splits.back()));
    }
    splits.push_back(number);
  }
  return splits;
}

std::vector<double> parse_row(std::string_view method, std::string_view text, std::string_view whole) {
  std::vector<double> row;
  for (const auto item : split(text, ",/")) {
    double percent = 0;
    if (!read(item, percent) || !(percent > 0 && percent <= 100)) {
      refuse(method, "group_compressions=" + std::string(whole) + ": " + in_quotes(item) +
                         " is not a percentage above 0 up to 100");
    }
    row.push_back(percent / 100);
  }
  return row;
}

}  // namespace

RatioTable::RatioTable(std::string_view method, RatioBy by, std::string_view splits,
                       std::string_view compressions)
    : by_(by) {
  splits_ = parse_splits(method, splits);
  if (by == RatioBy::size_and_time) {
    for (const auto row : split(compressions, ";")) rows_.push_back(parse_row(method, row, compressions));
  } else {
    rows_.push_back(parse_row(method, compressions, compressions));
  }
  if (by != RatioBy::size && by != RatioBy::size_and_time) return;
  for (const auto& row : rows_) {
    if (row.size() == splits_.size() + 1) continue;
    refuse(method, "group_compressions=" + std::string(compressions) + ": " + std::to_string(splits_.size()) +
                       " group_splits make " + std::to_string(splits_.size() + 1) +
                       " groups, and a row has " + std::to_string(row.size()) +
                       " percentages; give one for each group");
  }
}

std::size_t RatioTable::group(std::int64_t n) const {
  return static_cast<std::size_t>(std::ranges::upper_bound(splits_, n) - splits_.begin());
}

std::size_t RatioTable::phase(std::int64_t time, std::int64_t total) const {
  const auto count = by_ == RatioBy::time ? rows_[0].size() : rows_.size();
  const double length = static_cast<double>(total) / static_cast<double>(count);
  for (std::size_t j = 0; j < count; ++j) {
    if (static_cast<double>(time) < static_cast<double>(j + 1) * length) return j;
  }
  return count - 1;
}

double RatioTable::ratio(std::int64_t n, std::int64_t time, std::int64_t total) const {
  switch (by_) {
    case RatioBy::size:
      return rows_[0][group(n)];
    case RatioBy::time:
      return rows_[0][phase(time, total)];
    case RatioBy::size_and_time:
      return rows_[phase(time, total)][group(n)];
    case RatioBy::nothing:
      break;
  }
  return rows_[0][0];
}

Level level_of_fraction(double fraction, const Layer& layer, Knob knob) {
  if (fraction >= 1) return {};
  if (knob == Knob::ratio) return fraction;
  if (knob == Knob::bits) {
    if (!layer.compressed) return {};
    const double bits = std::clamp(std::round(32 * fraction), 1.0, 32.0);
    return std::clamp(bits, 2.0, 8.0);
  }
  if (!layer.is_matrix()) return {};
  const auto n = static_cast<double>(layer.rows), m = static_cast<double>(layer.cols);
  const double rank = std::min(std::max(1.0, std::floor(fraction * n * m / (n + m))), std::min(n, m));
  if (rank * (n + m) >= n * m) return {};
  return rank;
}

namespace {

class RatioPolicy final : public Policy {
 public:
  RatioPolicy(const std::string& name, RatioBy by, const Values& values, const PolicySetting& setting)
      : name_(name),
        table_(name, by, values.text("group_splits"), values.text("group_compressions")),
        layers_(setting.layers),
        knob_(setting.knob) {
    if (by == RatioBy::time || by == RatioBy::size_and_time) find_clock(values, setting);
  }

  // Between phases nothing changes.
  Request request(const Moment& moment) const override {
    Request request;
    const auto step = static_cast<std::int64_t>(moment.step);
    request.plan =
        total_ > 0 && (by_epoch_ ? moment.new_epoch
                                 : step > 0 && table_.phase(step, total_) != table_.phase(step - 1, total_));
    return request;
  }
  LevelPlan plan(const Observations& seen) override {
    const auto time = static_cast<std::int64_t>(by_epoch_ ? seen.moment.epoch : seen.moment.step);
    LevelPlan plan;
    for (const auto& layer : layers_) {
      plan.levels.push_back(level_of_fraction(table_.ratio(layer.numel(), time, total_), layer, knob_));
    }
    plan.reason = total_ == 0 ? name_ : name_ + (by_epoch_ ? ", epoch " : ", step ") + std::to_string(time);
    return plan;
  }
  bool counts_epochs() const override { return by_epoch_; }

 private:
  // Epochs where the run is given in epochs, steps otherwise.
  void find_clock(const Values& values, const PolicySetting& setting) {
    const auto clock = values.choice("clock", std::vector<std::string>{"auto", "epoch", "step"});
    std::optional<std::int64_t> steps = setting.steps;
    if (!steps && setting.epochs && setting.steps_per_epoch)
      steps = *setting.epochs * *setting.steps_per_epoch;
    by_epoch_ = clock == "epoch" || (clock == "auto" && setting.epochs);
    const auto total = by_epoch_ ? setting.epochs : steps;
    if (!total) {
      throw ConfigError("policy " + name_ + ": " +
                        (clock == "epoch" ? "clock=epoch needs the number of epochs: Options::epochs(n)"
                         : clock == "step"
                             ? "clock=step needs the length of the run: Options::steps(n), or epochs(n) "
                               "and steps_per_epoch(n)"
                             : "the length of the run is needed: Options::epochs(n) (and "
                               "steps_per_epoch(n) or start_epoch(e)), or Options::steps(n)"));
    }
    total_ = *total;
  }

  std::string name_;
  RatioTable table_;
  std::vector<Layer> layers_;
  Knob knob_;
  bool by_epoch_ = false;
  std::int64_t total_ = 0;
};

// The compressor's own setting.
class Own final : public Policy {
 public:
  Request request(const Moment&) const override { return {.plan = false}; }
  LevelPlan plan(const Observations&) override { return {}; }
};

const std::string source =
    "LEGACY: A Lightweight Dynamic Gradient Compression Strategy for Distributed Deep Learning, ICLR 2026";

std::vector<KeyInfo> keys(bool splits, bool clock, std::string compressions, std::string meaning) {
  std::vector<KeyInfo> keys;
  keys.push_back({"group_splits", "10000",
                  splits ? "sizes in elements at which a larger group of tensors begins, ascending, as in "
                           "1000/100000"
                         : "not used"});
  keys.push_back({"group_compressions", std::move(compressions), std::move(meaning)});
  if (clock) {
    keys.push_back({"clock", "auto", "what phases divide: epoch, step, auto (epochs where the run has any)"});
  }
  return keys;
}

auto maker(std::string name, RatioBy by) {
  return [name = std::move(name), by](const Values& values,
                                      const PolicySetting& setting) -> std::unique_ptr<Policy> {
    return std::make_unique<RatioPolicy>(name, by, values, setting);
  };
}

const bool registered =
    register_policy({
        .name = "uniform",
        .summary = "one setting for all parameters and steps: the compressor's own, or the fraction given",
        .source = source,
        .keys = keys(false, false, "own",
                     "percentage of the elements; the first counts; own: the compressor's own setting"),
        .knobs = {Knob::rank, Knob::ratio, Knob::bits, Knob::none},
        .by_layer = false,
        .make = [](const Values& values, const PolicySetting& setting) -> std::unique_ptr<Policy> {
          if (values.text("group_compressions") == "own") return std::make_unique<Own>();
          if (setting.knob == Knob::none) {
            throw ConfigError("policy uniform: group_compressions sets ratio, rank or bits; the compressor " +
                              in_quotes(setting.compressor) + " has no such setting");
          }
          return std::make_unique<RatioPolicy>("uniform", RatioBy::nothing, values, setting);
        },
    }) &&
    register_policy({
        .name = "layer-size",
        .summary = "small tensors keep a larger part than large ones",
        .source = source,
        .keys =
            keys(true, false, "1/0.1", "percentage of the elements for each group, smallest tensors first"),
        .joins = {"accordion"},
        .make = maker("layer-size", RatioBy::size),
    }) &&
    register_policy({
        .name = "epoch",
        .summary = "the kept part changes in equal phases of the run",
        .source = source,
        .keys = keys(false, true, "1/0.1", "percentage of the elements in each phase"),
        .by_layer = false,
        .joins = {"accordion"},
        .make = maker("epoch", RatioBy::time),
    }) &&
    register_policy({
        .name = "size-epoch",
        .summary = "both: a row of percentages by size for each phase",
        .source = source,
        .aliases = {"mix"},
        .keys = keys(true, true, "10/1;1/0.1",
                     "a row for each phase, with a percentage for each group: 50/10/1;10/1/0.1"),
        .joins = {"accordion"},
        .make = maker("size-epoch", RatioBy::size_and_time),
    });

}  // namespace
}  // namespace acp
