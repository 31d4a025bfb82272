// `lgreco`: per layer the setting that makes the sum of sizes (or of times) least, at the total error of the
// compressor's own setting.
#include "adaptive/lgreco.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>

#include "adaptive/accordion.h"
#include "adaptive/error_table.h"
#include "adaptive/ratio_errors.h"
#include "comm/error.h"

namespace acp {

Candidates lgreco_candidates(const PolicySetting& setting, double beta, double gamma) {
  Candidates result;
  if (setting.knob == Knob::rank) {
    const double low = std::max(1.0, std::floor(setting.own * gamma)),
                 high = std::max({std::ceil(setting.own * beta), setting.own, low});
    for (double rank = std::min(low, setting.own); rank <= high; ++rank) result.levels.push_back(rank);
  } else if (setting.knob == Knob::bits) {
    for (int bits = 2; bits <= 8; ++bits) result.levels.push_back(bits);
  } else {
    for (int i = -6; i <= 6; ++i) {
      const double ratio = i == 0 ? setting.own : setting.own * std::pow(2.0, i / 2.0);
      if (ratio <= 1) result.levels.push_back(ratio);
    }
  }
  const auto own = std::ranges::find(result.levels, setting.own);
  if (own != result.levels.end()) {
    result.reference = static_cast<std::size_t>(own - result.levels.begin());
  } else if (!result.levels.empty()) {  // bits outside of 2 .. 8
    result.reference = setting.own < result.levels.front() ? 0 : result.levels.size() - 1;
  }
  return result;
}

double low_rank_size(const Layer& layer, double rank, double most) {
  const double sides = static_cast<double>(layer.rows + layer.cols);
  const double full = std::min({static_cast<double>(layer.rows), static_cast<double>(layer.cols), most});
  return rank <= full ? rank * sides : full * sides + 1;
}

namespace {

RankErrors error_method(const Values& values) {
  const auto name = values.choice("error", std::vector<std::string>{"auto", "svd", "power"});
  return name == "svd" ? RankErrors::svd : name == "power" ? RankErrors::power : RankErrors::automatic;
}

class LGreco final : public Policy {
 public:
  LGreco(const Values& values, const PolicySetting& setting)
      : setting_(setting),
        candidates_(lgreco_candidates(setting, values.number("beta", 1, 1000), values.number("gamma", 0, 1))),
        start_(static_cast<std::uint64_t>(values.integer("start", 0, 1'000'000'000'000))),
        interval_(static_cast<std::uint64_t>(values.integer("interval", 1, 1'000'000'000'000))),
        window_(static_cast<std::uint64_t>(values.integer("window", 1, 1'000'000'000))),
        delay_(static_cast<std::uint64_t>(values.integer("delay", 0, 1'000'000'000))),
        alpha_(values.number("alpha", 1e-6, 1e6)),
        buckets_(static_cast<std::size_t>(values.integer("buckets", 10, 1'000'000))),
        by_time_(values.choice("objective", std::vector<std::string>{"size", "time"}) == "time"),
        method_(error_method(values)),
        levels_(own_levels(setting)) {
    if (window_ + delay_ > interval_) {
      throw ConfigError("lgreco: window=" + std::to_string(window_) + " and delay=" + std::to_string(delay_) +
                        " do not fit into interval=" + std::to_string(interval_) +
                        "; their sum must be at most that");
    }
    // Errors are computed much later, on another thread: whether they can be is found out here.
    if (setting_.knob == Knob::ratio) ratio_errors_.emplace(setting_.compressor);
    if (setting_.knob == Knob::bits) quantiser_of(setting_.compressor, std::array<std::int64_t, 1>{1});
    for (std::size_t l = 0; l < setting_.layers.size(); ++l) {
      if (setting_.layers[l].compressed) adaptable_.push_back(l);
    }
  }

  // With Accordion: which of two levels a layer's budget is reckoned by.
  LGreco(const Values& values, const Values& accordion, const PolicySetting& setting)
      : LGreco(values, setting) {
    // Accordion decides when L-GreCo adapts, by what L-GreCo adds up.
    for (const auto& [key, own] : {std::pair{"period", "10e"},
                                   {"clock", "auto"},
                                   {"window", "auto"},
                                   {"start", "0"},
                                   {"form", "accordion"},
                                   {"lr_rule", "on"},
                                   {"alpha", "0.02"}}) {
      if (accordion.text(key) != own) {
        throw ConfigError(std::string("policy lgreco+accordion: accordion's ") + key +
                          " has no meaning there, L-GreCo's interval decides; leave it out");
      }
    }
    regimes_.emplace(accordion_threshold(accordion, 0.5));
    TwoLevels defaults{std::ceil(setting.own * 2), std::floor(setting.own / 2)};
    if (setting.knob == Knob::ratio) defaults = {setting.own * 2, setting.own / 2};
    if (setting.knob == Knob::bits) defaults = {setting.own + 2, setting.own - 2};
    const double least = candidates_.levels.front(), most = candidates_.levels.back();
    defaults = {std::clamp(defaults.high, least, most), std::clamp(defaults.low, least, most)};
    const auto levels = accordion_levels(accordion, setting, defaults);
    for (const auto& [key, level] : {std::pair{"high", levels.high}, {"low", levels.low}}) {
      if (level >= least && level <= most) continue;
      std::ostringstream text;
      text << "policy lgreco+accordion: accordion's " << key << "=" << level << " is none of L-GreCo's "
           << knob_name(setting.knob) << "s, " << least << " to " << most << "; change it, or "
           << (setting.knob == Knob::rank ? "beta and gamma, or " : "") << "the compressor's own";
      throw ConfigError(text.str());
    }
    high_ = nearest(levels.high);
    low_ = nearest(levels.low);
  }

  Request request(const Moment& moment) const override {
    Request request;
    request.plan = adapts(moment);
    if (moment.step < start_) return request;
    const auto u = moment.step - start_;
    const auto place = (u + delay_) % interval_;  // in the period that ends with the window's last step
    if (place >= interval_ - window_) {
      request.accumulate = Accumulate::inputs;
      request.restart = place == interval_ - window_;
      request.weight = 1.0 / static_cast<double>(window_);
      request.one_rank = true;
    }
    request.begin_errors = place == 0 && u + delay_ > 0;
    request.errors = adapts(moment);
    return request;
  }

  // The norm, then each candidate's error.
  std::vector<double> errors(std::size_t layer, const at::Tensor& input) const override {
    const auto& about = setting_.layers[layer];
    if (!about.compressed) return {};
    std::vector<double> row;
    if (setting_.knob == Knob::rank) {
      std::vector<std::int64_t> ranks;
      for (const double level : candidates_.levels) ranks.push_back(static_cast<std::int64_t>(level));
      row = rank_errors(input, ranks, method_, setting_.seed, about.name);
    } else if (setting_.knob == Knob::bits) {
      std::vector<std::int64_t> bits;
      for (const double level : candidates_.levels) bits.push_back(static_cast<std::int64_t>(level));
      row = bits_errors(input, setting_.compressor, bits, setting_.seed, about.name);
    } else {
      row = ratio_errors_.value()(input, candidates_.levels);
    }
    row.insert(row.begin(), frobenius_norm(input));
    return row;
  }

  LevelPlan plan(const Observations& seen) override {
    LevelPlan plan;
    if (adapts(seen.moment) && !seen.errors.empty() && !adaptable_.empty()) plan.reason = adapt(seen);
    plan.levels = levels_;
    return plan;
  }
  bool wants_costs() const override { return by_time_; }

  PolicyState state() const override {
    PolicyState state;
    for (const auto& level : levels_) state["levels"].push_back(level.value_or(0));
    if (regimes_) state["norms"] = regimes_->before();
    return state;
  }
  void load_state(const PolicyState& state) override {
    if (const auto found = state.find("levels"); found != state.end()) {
      if (found->second.size() != levels_.size()) return;
      for (std::size_t l = 0; l < levels_.size(); ++l) {
        levels_[l] = found->second[l] > 0 ? Level(found->second[l]) : Level();
      }
    }
    if (const auto found = state.find("norms"); regimes_ && found != state.end())
      regimes_->set_before(found->second);
  }

 private:
  bool adapts(const Moment& moment) const {
    return moment.step > start_ && (moment.step - start_) % interval_ == 0;
  }

  std::size_t nearest(double level) const {
    const auto& all = candidates_.levels;
    const auto place = std::ranges::min_element(all, {}, [&](double x) { return std::abs(x - level); });
    return static_cast<std::size_t>(place - all.begin());
  }

  // The cost of a candidate; index candidates_.levels.size() is dense (objective=time alone).
  double cost(const Layer& layer, std::size_t k, const CostModel& costs) const {
    const auto& levels = candidates_.levels;
    if (!by_time_) {
      return setting_.knob == Knob::rank ? low_rank_size(layer, levels[k], levels.back())
                                         : setting_.wire_bytes(layer, levels[k]);
    }
    if (k == levels.size()) {
      return costs.dense * static_cast<double>(layer.numel() * layer.element_size);
    }
    double rank = 1;
    if (setting_.knob == Knob::rank) {
      rank = std::min({levels[k], static_cast<double>(layer.rows), static_cast<double>(layer.cols)});
    }
    return costs.beta * setting_.wire_bytes(layer, levels[k]) +
           costs.gamma.value_or(0) * rank * static_cast<double>(layer.numel());
  }

  std::string adapt(const Observations& seen) {
    if (by_time_ && !seen.costs.gamma) return "coding has not been measured yet, so nothing changes";
    std::vector<double> norms;
    Table errors, sizes;
    for (const auto l : adaptable_) {
      const auto& row = seen.errors[l];
      norms.push_back(row.at(0));
      errors.emplace_back(row.begin() + 1, row.end());
      sizes.emplace_back();
      for (std::size_t k = 0; k < candidates_.levels.size(); ++k) {
        sizes.back().push_back(cost(setting_.layers[l], k, seen.costs));
      }
      if (by_time_) {
        errors.back().push_back(0);
        sizes.back().push_back(cost(setting_.layers[l], candidates_.levels.size(), seen.costs));
      }
    }
    // The budget of the reference's columns; while they cannot be reckoned, the last choice goes on.
    std::vector<std::size_t> reference(adaptable_.size(), candidates_.reference);
    if (regimes_) {
      const auto critical = regimes_->decide(norms);
      for (std::size_t i = 0; i < reference.size(); ++i) reference[i] = critical[i] ? high_ : low_;
    }
    const auto answer = allocate_error(errors, sizes, reference, alpha_, buckets_);
    if (!answer.feasible && !(std::isfinite(answer.budget) && answer.budget > 0)) {
      return "no valid statistics, so nothing changes";
    }
    double uniform = 0;
    for (std::size_t i = 0; i < reference.size(); ++i) uniform += sizes[i][reference[i]];
    // Rounding errors up may have priced the reference itself out.
    const bool better = answer.feasible && !(alpha_ >= 1 && uniform < answer.size);
    const auto& chosen = better ? answer.chosen : reference;
    for (std::size_t i = 0; i < adaptable_.size(); ++i) {
      levels_[adaptable_[i]] =
          chosen[i] < candidates_.levels.size() ? Level(candidates_.levels[chosen[i]]) : Level();
    }
    const double part = uniform > 0 ? (better ? answer.size : uniform) / uniform : 1;
    char text[80];
    std::snprintf(text, sizeof text, "%s %.1f %% of the reference's", by_time_ ? "predicted time" : "size",
                  100 * part);
    return text;
  }

  PolicySetting setting_;
  Candidates candidates_;
  std::uint64_t start_, interval_, window_, delay_;
  double alpha_;
  std::size_t buckets_;
  bool by_time_;
  RankErrors method_;
  std::optional<RatioErrors> ratio_errors_;
  std::vector<Level> levels_;
  std::vector<std::size_t> adaptable_;  // layers that the compressor compresses at its own setting
  std::optional<CriticalRegimes> regimes_;
  std::size_t high_ = 0, low_ = 0;  // columns
};

const bool registered = register_policy({
    .name = "lgreco",
    .summary =
        "of each layer the setting that makes the message smallest at the compressor's own total error",
    .source = "Markov et al., L-GreCo: Layerwise-Adaptive Gradient Compression for Efficient Data-parallel "
              "Deep Learning, MLSys 2024",
    .keys = {{"start", "1000", "steps before the first period begins"},
             {"interval", "100", "steps between adaptations"},
             {"window", "10", "steps whose inputs are averaged before an adaptation"},
             {"delay", "1",
              "steps in which the errors are computed beside the training; window + delay <= interval"},
             {"alpha", "1", "multiple of the compressor's own total error that is allowed"},
             {"beta", "2", "ranks: up to ceil(rank * beta)"},
             {"gamma", "0.5", "ranks: from floor(rank * gamma), at least 1"},
             {"buckets", "10000", "parts into which the error budget is cut"},
             {"error", "auto",
              "of ranks: svd (exact), power (subspace iteration), auto (svd up to 256 rows or "
              "columns)"},
             {"objective", "size",
              "size: numbers or bytes; time: predicted seconds on this network, where whole layers are a "
              "candidate, too"}},
    .joins = {"accordion"},
    .make = [](const Values& values, const PolicySetting& setting) -> std::unique_ptr<Policy> {
      return std::make_unique<LGreco>(values, setting);
    },
    .join = [](const Values& values, const Values& accordion, const PolicySetting& setting)
        -> std::unique_ptr<Policy> { return std::make_unique<LGreco>(values, accordion, setting); },
});

}  // namespace
}  // namespace acp
