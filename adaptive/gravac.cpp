// `gravac`: one factor for the whole model, found by a search and watched in every step.
#include "adaptive/gravac.h"

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "compressors/names.h"

namespace acp {
namespace {

constexpr double dense = 1;

}  // namespace

std::string to_string(GravacLabel label) {
  switch (label) {
    case GravacLabel::current:
      return "CURRENT";
    case GravacLabel::min:
      return "MIN";
    case GravacLabel::dense:
      return "DENSE";
    case GravacLabel::warmup:
      break;
  }
  return "WARMUP";
}

std::vector<double> gravac_ladder(double theta_min, double theta_max, double step) {
  std::vector<double> ladder;
  double factor = theta_min;
  for (std::size_t j = 0; factor <= theta_max;
       factor = theta_min * std::pow(step, static_cast<double>(++j))) {
    ladder.push_back(factor);
  }
  if (ladder.back() < theta_max) ladder.push_back(theta_max);
  return ladder;
}

GravacController::GravacController(GravacSettings settings)
    : settings_(std::move(settings)),
      raw_(settings_.window, settings_.alpha),
      min_(settings_.window, settings_.alpha),
      candidate_(settings_.window, settings_.alpha) {
  if (settings_.ladder.size() > 1) index_ = 1;
}

GravacController::Decision GravacController::decide(double raw, double min, std::optional<double> candidate) {
  ++step_;
  last_ = {};
  const bool sound =
      std::isfinite(raw) && raw > 0 && std::isfinite(min) && (!candidate || std::isfinite(*candidate));
  if (!sound) {
    last_.label = GravacLabel::dense;
    return last_;
  }
  const double o = raw_.push(raw), m = min_.push(min);
  const bool lowest = index_ == 0;
  double c = m;
  if (!lowest && candidate) candidate_.push(*candidate);
  if (!lowest) c = candidate_.value();
  if (!raw_.full()) {
    last_.factor = theta_min();
    return last_;
  }
  if ((lowest || candidate_.full()) && c / o >= settings_.epsilon) {
    last_ = {GravacLabel::current, this->candidate(), c / o};
  } else if (m / o >= settings_.epsilon) {
    last_ = {GravacLabel::min, theta_min(), m / o};
  } else {
    last_ = {GravacLabel::dense, dense, 1.0};
  }
  return last_;
}

std::string GravacController::finish(std::optional<double> throughput) {
  if (last_.gain && throughput && std::isfinite(*throughput)) {
    auto& sum = sums_[last_.factor];
    sum.sum += *throughput * *last_.gain;
    ++sum.count;
  }
  always_dense_ = always_dense_ && last_.label == GravacLabel::dense;
  if (step_ <= settings_.window || (step_ - settings_.window) % settings_.interval != 0) return {};
  const bool only_dense = std::exchange(always_dense_, true);
  const auto event = evaluate();
  if (!searching_ && event.empty() && settings_.research_every > 0 &&
      (only_dense || step_ - settled_ >= settings_.research_every)) {
    searching_ = true;
    choose(settings_.ladder[std::min<std::size_t>(1, settings_.ladder.size() - 1)]);
    return "SEARCH";
  }
  return event;
}

std::string GravacController::evaluate() {
  for (const auto& [factor, sum] : sums_) {
    if (sum.count > 0) throughput_[factor] = sum.sum / static_cast<double>(sum.count);
  }
  sums_.clear();
  if (!searching_) return {};
  std::vector<std::pair<double, double>> best;  // throughput, factor
  for (const auto& [factor, value] : throughput_) {
    if (factor != dense) best.emplace_back(value, factor);
  }
  std::ranges::sort(best, std::greater<>());
  if (best.size() >= 2 && std::abs(best[0].first - best[1].first) / best[1].first < settings_.omega) {
    choose(std::max(best[0].second, best[1].second));
    searching_ = false;
    settled_ = step_;
    return "OMEGA";
  }
  if (index_ + 1 == settings_.ladder.size()) {
    choose(best.empty() ? theta_min() : best[0].second);
    searching_ = false;
    settled_ = step_;
    return "END";
  }
  choose(settings_.ladder[index_ + 1]);
  return "NEXT";
}

void GravacController::choose(double factor) {
  const auto place = std::ranges::find(settings_.ladder, factor) - settings_.ladder.begin();
  if (static_cast<std::size_t>(place) == index_) return;
  index_ = static_cast<std::size_t>(place);
  candidate_.clear();
}

PolicyState GravacController::state() const {
  PolicyState state;
  state["controller"] = {static_cast<double>(index_), searching_ ? 1. : 0., static_cast<double>(step_),
                         static_cast<double>(settled_), always_dense_ ? 1. : 0.};
  state["last"] = {static_cast<double>(last_.label), last_.factor, last_.gain ? 1. : 0.,
                   last_.gain.value_or(0)};
  state["raw"] = raw_.values();
  state["min"] = min_.values();
  state["candidate"] = candidate_.values();
  for (const auto& [factor, sum] : sums_) {
    for (const double x : {factor, sum.sum, static_cast<double>(sum.count)}) state["sums"].push_back(x);
  }
  for (const auto& [factor, value] : throughput_) {
    for (const double x : {factor, value}) state["throughput"].push_back(x);
  }
  return state;
}

void GravacController::load_state(const PolicyState& state) {
  const auto numbers = [&](const char* name) {
    const auto found = state.find(name);
    return found == state.end() ? std::vector<double>() : found->second;
  };
  const auto controller = numbers("controller"), last = numbers("last");
  if (controller.size() != 5 || last.size() != 4 ||
      controller[0] >= static_cast<double>(settings_.ladder.size()))
    return;
  index_ = static_cast<std::size_t>(controller[0]);
  searching_ = controller[1] != 0;
  step_ = static_cast<std::uint64_t>(controller[2]);
  settled_ = static_cast<std::uint64_t>(controller[3]);
  always_dense_ = controller[4] != 0;
  last_ = {static_cast<GravacLabel>(static_cast<int>(last[0])), last[1],
           last[2] != 0 ? std::optional(last[3]) : std::nullopt};
  raw_.set_values(numbers("raw"));
  min_.set_values(numbers("min"));
  candidate_.set_values(numbers("candidate"));
  sums_.clear();
  throughput_.clear();
  const auto sums = numbers("sums"), throughput = numbers("throughput");
  for (std::size_t i = 0; i + 2 < sums.size(); i += 3) {
    sums_[sums[i]] = {sums[i + 1], static_cast<std::uint64_t>(sums[i + 2])};
  }
  for (std::size_t i = 0; i + 1 < throughput.size(); i += 2) throughput_[throughput[i]] = throughput[i + 1];
}

namespace {

GravacSettings parse(const Values& values) {
  GravacSettings settings;
  if (values.text("ladder") == "auto") {
    const double low = values.number("theta_min", 1.000001, 1e9),
                 high = values.number("theta_max", 1.000001, 1e9);
    if (high < low) {
      throw ConfigError("gravac: theta_max=" + values.text("theta_max") +
                        " is below theta_min=" + values.text("theta_min"));
    }
    settings.ladder = gravac_ladder(low, high, values.number("step", 1.01, 1e9));
  } else {
    settings.ladder = values.list("ladder");
    for (std::size_t j = 0; j < settings.ladder.size(); ++j) {
      if (settings.ladder[j] > 1 && (j == 0 || settings.ladder[j] > settings.ladder[j - 1])) continue;
      throw ConfigError("gravac: ladder=" + values.text("ladder") + ": factors must ascend and be above 1");
    }
  }
  settings.epsilon = values.number("epsilon", 1e-9, 1);
  settings.omega = values.number("omega", 0, 1);
  settings.window = static_cast<std::size_t>(values.integer("window", 1, longest_average));
  settings.alpha = values.number("alpha", 0, 0.999999);
  settings.interval = static_cast<std::uint64_t>(values.integer("interval", 1, 1'000'000'000));
  settings.research_every = static_cast<std::uint64_t>(values.integer("research_every", 0, 1'000'000'000));
  if (settings.interval <= settings.window) {
    throw ConfigError("gravac: interval=" + std::to_string(settings.interval) +
                      " must be longer than window=" + std::to_string(settings.window) +
                      ", or a candidate is left before its gain is known");
  }
  return settings;
}

// The decision for a step is made from the norms of the step before it, so that nothing waits for it.
class Gravac final : public Policy {
 public:
  Gravac(const Values& values, const PolicySetting& setting)
      : controller_(parse(values)),
        layers_(setting.layers.size()),
        ranks_(setting.world_size),
        norm_(values.choice("norm", std::vector<std::string>{"sum", "squared"}) == "squared" ? NormOf::squares
                                                                                             : NormOf::sum),
        with_memory_(values.choice("denominator", std::vector<std::string>{"gradient", "input"}) == "input"),
        factor_(controller_.theta_min()) {}

  Request request(const Moment&) const override {
    Request request;
    request.every_step = true;
    return request;
  }

  LevelPlan plan(const Observations& seen) override {
    std::string reason;
    if (seen.measured) {
      const auto& measured = *seen.measured;
      // Of the decision that governed the step that has ended.
      const bool timed = std::isfinite(measured.seconds) && measured.seconds > 0;
      const auto event =
          controller_.steps() == 0
              ? std::string()
              : controller_.finish(timed ? std::optional(ranks_ / measured.seconds) : std::nullopt);
      std::optional<double> candidate;
      if (measured.kept.size() == 2 && measured_for_ == controller_.candidate()) candidate = measured.kept[1];
      const double raw = with_memory_ ? measured.input : measured.raw;
      const auto decision =
          controller_.decide(raw, measured.kept.empty() ? std::nan("") : measured.kept[0], candidate);
      factor_ = decision.factor;
      reason = to_string(decision.label) + (event.empty() ? "" : ", " + event);
      if (decision.gain) reason += ", gain " + std::to_string(*decision.gain);
    }
    measured_for_ = controller_.candidate();
    LevelPlan plan;
    plan.levels.assign(layers_, factor_ > dense ? Level(1 / factor_) : Level());
    plan.probes = {1 / controller_.theta_min()};
    if (measured_for_ != controller_.theta_min()) plan.probes.push_back(1 / measured_for_);
    plan.norm = norm_;
    plan.reason = std::move(reason);
    return plan;
  }

  PolicyState state() const override {
    auto state = controller_.state();
    state["plan"] = {factor_, measured_for_};
    return state;
  }
  void load_state(const PolicyState& state) override {
    controller_.load_state(state);
    const auto plan = state.find("plan");
    if (plan == state.end() || plan->second.size() != 2) return;
    factor_ = plan->second[0];
    measured_for_ = plan->second[1];
  }

 private:
  GravacController controller_;
  std::size_t layers_;
  double ranks_;
  NormOf norm_;
  bool with_memory_;
  double factor_, measured_for_ = 0;
};

const bool registered = register_policy({
    .name = "gravac",
    .summary =
        "the factor with the best throughput times gain, found by a search; falls back in every step in "
        "which too much would be lost",
    .source = "Tyagi and Swany, GraVAC: Adaptive Compression for Communication-Efficient Distributed DL "
              "Training, IEEE CLOUD 2023",
    .keys = {{"theta_min", "10", "the least factor (1 / kept part), which is always tried, above 1"},
             {"theta_max", "10000", "the largest"},
             {"step", "2", "each factor is this multiple of the one before, at least 1.01"},
             {"ladder", "auto", "the factors themselves, ascending: 10/20/1000"},
             {"epsilon", "0.75", "least gain that is accepted, above 0 up to 1"},
             {"omega", "0.05", "relative closeness of the two best throughputs that ends the search, 0 to 1"},
             {"window", "25", "steps of the moving averages, and of the warm-up"},
             {"alpha", "0.05", "weight of the averages, 0 to below 1"},
             {"interval", "2000", "steps between evaluations, more than window"},
             {"norm", "sum", "sum of the layers' norms, or squared: of their squares"},
             {"denominator", "gradient",
              "of the gain: gradient, or input: with the error memory, so at most 1"},
             {"research_every", "0", "steps after which the search begins anew; 0: never"}},
    .knobs = {Knob::ratio},
    .by_layer = false,
    .make = [](const Values& values, const PolicySetting& setting) -> std::unique_ptr<Policy> {
      return std::make_unique<Gravac>(values, setting);
    },
});

}  // namespace
}  // namespace acp
