// `accordion`: two levels per layer, by how fast its gradient norm changes.
#include "adaptive/accordion.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "comm/error.h"

namespace acp {

TwoLevels accordion_levels(const Values& values, const PolicySetting& setting, const TwoLevels& defaults) {
  const auto read = [&](const char* key, double otherwise) {
    if (values.text(key) == "auto") return otherwise;
    if (setting.knob == Knob::ratio) return values.number(key, 1e-9, 1);
    const bool bits = setting.knob == Knob::bits;
    return static_cast<double>(values.integer(key, bits ? 2 : 1, bits ? 8 : 1'000'000));
  };
  const TwoLevels levels{read("high", defaults.high), read("low", defaults.low)};
  if (levels.high < levels.low) {
    std::ostringstream text;
    text << "accordion: high=" << levels.high << " is below low=" << levels.low
         << "; high is what critical layers get, so it must be at least low";
    throw ConfigError(text.str());
  }
  return levels;
}

double accordion_threshold(const Values& values, double otherwise) {
  return values.text("threshold") == "auto" ? otherwise : values.number("threshold", 0, 1e9);
}

namespace {

const std::vector<std::string> forms{"accordion", "reducer", "hook", "gravac"};

// A period in steps, or in epochs ("10e").
struct Period {
  std::int64_t length = 0;
  bool epochs = false;
};

Period read_period(const Values& values, const PolicySetting& setting) {
  const auto clock = values.choice("clock", std::vector<std::string>{"auto", "epoch", "step"});
  auto text = values.text("period");
  Period period;
  period.epochs = !text.empty() && (text.back() == 'e' || text.back() == 'E');
  if (period.epochs) text.pop_back();
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), period.length);
  if (error != std::errc() || end != text.data() + text.size() || period.length < 1 ||
      period.length > 1'000'000'000'000) {
    throw ConfigError("accordion: period=" + values.text("period") +
                      " is neither a number of steps nor one of epochs, as in 10e");
  }
  if (clock == "step" && period.epochs) {
    throw ConfigError("accordion: period=" + values.text("period") +
                      " is in epochs, and clock=step counts steps; give period in steps");
  }
  if (clock == "epoch") period.epochs = true;
  if (period.epochs && !setting.epochs && !setting.steps_per_epoch) {
    throw ConfigError(
        "policy accordion: period=" + values.text("period") +
        " counts epochs: Options::steps_per_epoch(n), or Options::epochs(n) with start_epoch(e); or give "
        "period in steps");
  }
  return period;
}

// The published ones.
TwoLevels default_levels(Knob knob, const std::string& form) {
  if (knob == Knob::rank) return {2, 1};
  if (knob == Knob::bits) return {8, 4};
  return form == "gravac" ? TwoLevels{0.99, 0.25} : TwoLevels{0.99, 0.1};
}

// Keys that other forms than this one have.
void refuse_given(const Values& values, const std::string& form,
                  const std::vector<std::pair<std::string, std::string>>& defaults, const char* why) {
  for (const auto& [key, own] : defaults) {
    if (values.text(key) == own) continue;
    throw ConfigError("accordion: " + key + " has no meaning with form=" + form + ", " + why +
                      "; leave it out");
  }
}

// Levels of layers: those that the compressor leaves whole stay whole.
class Levels {
 public:
  Levels(const Values& values, const PolicySetting& setting)
      : levels_(
            accordion_levels(values, setting, default_levels(setting.knob, values.choice("form", forms)))),
        layers_(setting.layers) {}
  std::vector<Level> of(const std::vector<bool>& high) const {
    std::vector<Level> result;
    for (std::size_t k = 0; k < layers_.size(); ++k) {
      const bool light = high.empty() || high[k];
      result.push_back(layers_[k].compressed ? Level(light ? levels_.high : levels_.low) : Level());
    }
    return result;
  }
  std::size_t size() const { return layers_.size(); }
  // Of the layers that are compressed at all.
  std::string count_critical(const std::vector<bool>& high) const {
    std::size_t critical = 0, all = 0;
    for (std::size_t k = 0; k < layers_.size(); ++k) {
      all += layers_[k].compressed;
      critical += layers_[k].compressed && high[k];
    }
    return std::to_string(critical) + " of " + std::to_string(all) + " layers are critical";
  }

 private:
  TwoLevels levels_;
  std::vector<Layer> layers_;
};

std::vector<double> to_numbers(const std::vector<bool>& flags) {
  return {flags.begin(), flags.end()};
}

std::vector<bool> to_flags(const std::vector<double>& numbers) {
  std::vector<bool> flags;
  flags.reserve(numbers.size());
  for (const double number : numbers) flags.push_back(number != 0);
  return flags;
}

const std::vector<double>* find(const PolicyState& state, const std::string& name) {
  const auto found = state.find(name);
  return found == state.end() ? nullptr : &found->second;
}

// Decisions at intervals: the norm of what was added up before one, against that at the last one.
class Accordion final : public Policy {
 public:
  Accordion(const Values& values, const PolicySetting& setting)
      : form_(values.choice("form", forms)),
        levels_(values, setting),
        period_(read_period(values, setting)),
        window_(values.text("window") != "auto" ? values.integer("window", 0, 1'000'000'000)
                : form_ == "hook"               ? 10
                                                : 0),
        steps_per_epoch_(setting.steps_per_epoch.value_or(0)),
        regimes_(accordion_threshold(values, 0.5), form_ == "reducer"),
        lr_rule_(values.boolean("lr_rule") && form_ != "hook"),
        start_(static_cast<std::uint64_t>(values.integer("start", 0, 1'000'000'000'000))),
        own_(own_levels(setting)) {
    refuse_given(values, form_, {{"alpha", "0.02"}}, "nothing is smoothed");
    if (form_ == "hook") {
      refuse_given(values, form_, {{"lr_rule", "on"}}, "which has no rule for the rate");
      if (period_.epochs) throw ConfigError("accordion: form=hook counts steps; give period in steps");
    }
    if (form_ == "reducer") {
      refuse_given(values, form_, {{"window", "auto"}}, "whose window is one step");
      window_ = 1;
      if (period_.epochs && steps_per_epoch_ == 0) {
        throw ConfigError(
            "accordion: form=reducer with a period in epochs needs Options::steps_per_epoch(n)");
      }
    }
    if (window_ == 0 && !period_.epochs) window_ = period_.length;
    if (!period_.epochs && window_ > period_.length) {
      throw ConfigError("accordion: window=" + std::to_string(window_) + " is longer than period=" +
                        std::to_string(period_.length) + "; it must fit between two decisions");
    }
    if (period_.epochs && window_ > 0 && form_ != "reducer") {
      if (steps_per_epoch_ == 0) {
        throw ConfigError(
            "accordion: window with a period in epochs needs Options::steps_per_epoch(n), to "
            "know where an epoch ends; or leave window out");
      }
      if (window_ > steps_per_epoch_) {
        throw ConfigError("accordion: window=" + std::to_string(window_) + " is longer than an epoch of " +
                          std::to_string(steps_per_epoch_) + " steps");
      }
    }
  }

  Request request(const Moment& moment) const override {
    Request request;
    request.every_step = lr_rule_;
    request.norms = decides(moment);
    request.plan = request.every_step || request.norms;
    // The first step of a window is that at whose end a window of full length closes, counted back.
    if (const auto place = place_in_window(moment)) {
      request.accumulate = form_ == "hook" ? Accumulate::inputs : Accumulate::gradients;
      request.restart = *place == 0;
      request.weight = form_ == "hook" ? 1.0 / static_cast<double>(window_) : 1.0;
    }
    return request;
  }

  LevelPlan plan(const Observations& seen) override {
    LevelPlan plan;
    if (decides(seen.moment) && !seen.norms.empty()) {  // a policy that begins in the middle has none yet
      decided_ = seen.moment.step;
      const bool fell = form_ == "reducer" && seen.learning_rate && at_decision_ > *seen.learning_rate;
      high_ = regimes_.decide(seen.norms);
      if (fell) high_.assign(levels_.size(), true);
      if (seen.learning_rate) at_decision_ = *seen.learning_rate;
      plan.reason = levels_.count_critical(high_);
    }
    if (form_ != "reducer" && lr_rule_ && seen.learning_rate) {
      if (last_ > *seen.learning_rate) {
        high_.assign(levels_.size(), true);
        plan.reason = "the learning rate fell";
      }
      last_ = *seen.learning_rate;
    }
    // Before the first decision everything is high; in the hooks' form, as the compressor has it.
    plan.levels = form_ == "hook" && high_.empty() ? own_ : levels_.of(high_);
    return plan;
  }

  bool counts_epochs() const override { return period_.epochs; }

  PolicyState state() const override {
    return {{"high", to_numbers(high_)},
            {"norms", regimes_.before()},
            {"learning_rates", {last_, at_decision_}},
            {"decided", {static_cast<double>(decided_)}}};
  }
  void load_state(const PolicyState& state) override {
    if (const auto* high = find(state, "high")) high_ = to_flags(*high);
    if (const auto* norms = find(state, "norms")) regimes_.set_before(*norms);
    if (const auto* rates = find(state, "learning_rates"); rates != nullptr && rates->size() == 2) {
      last_ = (*rates)[0];
      at_decision_ = (*rates)[1];
    }
    if (const auto* decided = find(state, "decided"); decided != nullptr && decided->size() == 1)
      decided_ = static_cast<std::uint64_t>(decided->front());
  }

 private:
  // In epochs: at the end of epochs 0, period, 2 period, ...; of the reducers, after their first step. In
  // steps: after every period of steps.
  bool decides(const Moment& moment) const {
    // An epoch may begin at the moment of a decision; there is nothing new to decide by.
    if (moment.step == decided_) return false;
    if (form_ == "reducer" && period_.epochs) return opened_by(moment);
    if (period_.epochs) {
      return moment.new_epoch && (static_cast<std::int64_t>(moment.epoch) - 1) % period_.length == 0;
    }
    if (moment.step <= start_) return false;
    return static_cast<std::int64_t>(moment.step - start_) % period_.length == 0;
  }

  // Whether the step before this moment was the first of an epoch of decision.
  bool opened_by(const Moment& moment) const {
    const auto epoch = static_cast<std::int64_t>(moment.epoch);
    if (moment.epoch_step == 1) return epoch % period_.length == 0;
    return steps_per_epoch_ == 1 && moment.new_epoch && (epoch - 1) % period_.length == 0;
  }

  // The number of the coming step in its window; nothing outside of one.
  std::optional<std::int64_t> place_in_window(const Moment& moment) const {
    if (form_ == "reducer" && period_.epochs) {
      const bool opens =
          moment.epoch_step == 0 && static_cast<std::int64_t>(moment.epoch) % period_.length == 0;
      return opens ? std::optional<std::int64_t>(0) : std::nullopt;
    }
    if (period_.epochs) {
      if (static_cast<std::int64_t>(moment.epoch) % period_.length != 0) return std::nullopt;
      if (window_ == 0) return moment.step == 0 || moment.new_epoch ? 0 : 1;
      const auto place = static_cast<std::int64_t>(moment.epoch_step) - (steps_per_epoch_ - window_);
      return place < 0 ? std::nullopt : std::optional(place);
    }
    if (moment.step < start_) return std::nullopt;
    const auto place =
        static_cast<std::int64_t>(moment.step - start_) % period_.length - (period_.length - window_);
    return place < 0 ? std::nullopt : std::optional(place);
  }

  std::string form_;
  Levels levels_;
  Period period_;
  std::int64_t window_, steps_per_epoch_;
  CriticalRegimes regimes_;
  bool lr_rule_;
  std::uint64_t start_;
  std::vector<Level> own_;
  std::vector<bool> high_;             // empty before the first decision
  double last_ = 0, at_decision_ = 0;  // learning rates
  std::uint64_t decided_ = 0;          // the step before which the last decision fell
};

// Every step, for the whole model (GraVAC's form).
class Bursts final : public Policy {
 public:
  Bursts(const Values& values, const PolicySetting& setting)
      : levels_(values, setting),
        detector_(static_cast<std::size_t>(
                      values.text("window") == "auto" ? 100 : values.integer("window", 1, longest_average)),
                  values.number("alpha", 0, 0.999999), accordion_threshold(values, 0.2)) {
    refuse_given(values, "gravac", {{"period", "10e"}, {"clock", "auto"}, {"start", "0"}, {"lr_rule", "on"}},
                 "which decides in every step by the norm");
    if (setting.knob != Knob::ratio) {
      throw ConfigError("accordion: form=gravac needs a compressor with a ratio, and " + setting.compressor +
                        " has none; take form=accordion");
    }
  }

  Request request(const Moment&) const override {
    Request request;
    request.every_step = true;
    return request;
  }
  LevelPlan plan(const Observations& seen) override {
    if (seen.measured) high_ = detector_.push(seen.measured->raw);
    LevelPlan plan;
    plan.levels = levels_.of(std::vector<bool>(levels_.size(), high_));
    plan.probes = {1e-9};  // for the norm of the gradient
    plan.reason = high_ ? "a burst" : "calm";
    return plan;
  }
  PolicyState state() const override {
    return {{"values", detector_.average().values()},
            {"before", {detector_.before}},
            {"high", {high_ ? 1. : 0.}}};
  }
  void load_state(const PolicyState& state) override {
    if (const auto* values = find(state, "values")) detector_.average().set_values(*values);
    if (const auto* before = find(state, "before"); before != nullptr && !before->empty())
      detector_.before = before->front();
    if (const auto* high = find(state, "high"); high != nullptr && !high->empty()) high_ = high->front() != 0;
  }

 private:
  Levels levels_;
  BurstDetector detector_;
  bool high_ = false;
};

const bool registered = register_policy({
    .name = "accordion",
    .summary = "of two levels the higher where a layer's gradient norm changes fast, or the rate has fallen",
    .source = "Agarwal et al., Accordion: Adaptive Gradient Communication via Critical Learning Regime "
              "Identification, MLSys 2021",
    .keys =
        {{"high", "auto", "rank, ratio or bits of critical layers; auto: 2, 0.99, 8"},
         {"low", "auto", "rank, ratio or bits of the others; auto: 1, 0.1 (form=gravac: 0.25), 4"},
         {"threshold", "auto",
          "relative change of the norm from which a layer is critical; auto: 0.5, form=gravac 0.2"},
         {"period", "10e", "between decisions, in epochs (10e) or steps (500)"},
         {"clock", "auto", "auto, or epoch, step: what period counts if it does not say"},
         {"window", "auto",
          "steps before a decision that are added up, 0: the whole epoch or period; form=gravac: of the "
          "average; auto: 0, form=hook 10, form=gravac 100"},
         {"lr_rule", "on", "everything is high after the learning rate has fallen, until the next decision"},
         {"start", "0", "steps before periods in steps begin"},
         {"alpha", "0.02", "weight of form=gravac's average, 0 to below 1"},
         {"form", "accordion",
          "accordion; reducer: one minibatch at an epoch's first step, critical above the threshold; hook: "
          "L-GreCo's, with the error memory and no rule for the rate; gravac: the whole model, every step"}},
    .make = [](const Values& values, const PolicySetting& setting) -> std::unique_ptr<Policy> {
      if (values.choice("form", forms) == "gravac") return std::make_unique<Bursts>(values, setting);
      return std::make_unique<Accordion>(values, setting);
    },
});

}  // namespace
}  // namespace acp
