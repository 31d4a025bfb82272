// The table of policies, and what all of them share: specifications, warm-up, combinations.
#include "adaptive/policy.h"

#include <algorithm>

#include "comm/error.h"
#include "compressors/names.h"
#include "compressors/text.h"

namespace acp {
namespace {

std::map<std::string, PolicyInfo, std::less<>>& table() {
  static std::map<std::string, PolicyInfo, std::less<>> policies;  // filled by static initialisers
  return policies;
}

const KeyInfo warmup_key{"warmup", "0", "dense steps before the first compressed one"};

std::vector<KeyInfo> all_keys(const PolicyInfo& info) {
  auto keys = info.keys;
  keys.push_back(warmup_key);
  return keys;
}

// Dense for the first steps of the run; the policy itself sees these steps, too, but not what they took: its
// own settings have not been in force.
class Warmup final : public Policy {
 public:
  Warmup(std::unique_ptr<Policy> policy, std::uint64_t steps, const PolicySetting& setting)
      : policy_(std::move(policy)),
        steps_(steps),
        layers_(setting.layers.size()),
        own_(own_levels(setting)) {}

  Request request(const Moment& moment) const override {
    auto request = policy_->request(moment);
    request.plan = request.plan || moment.step <= steps_;
    return request;
  }
  LevelPlan plan(const Observations& seen) override {
    auto shown = seen;
    if (seen.moment.step <= steps_) shown.measured.reset();  // of the step before
    auto plan = policy_->plan(shown);
    if (seen.moment.step < steps_) {
      plan.levels.assign(layers_, Level());
      plan.probes.clear();
      plan.reason = "warm-up";
    } else if (plan.levels.empty()) {
      plan.levels = own_;
      plan.reason = "after the warm-up";
    }
    return plan;
  }
  std::vector<double> errors(std::size_t layer, const at::Tensor& input) const override {
    return policy_->errors(layer, input);
  }
  bool counts_epochs() const override { return policy_->counts_epochs(); }
  bool wants_costs() const override { return policy_->wants_costs(); }
  PolicyState state() const override { return policy_->state(); }
  void load_state(const PolicyState& state) override { policy_->load_state(state); }

 private:
  std::unique_ptr<Policy> policy_;
  std::uint64_t steps_;
  std::size_t layers_;
  std::vector<Level> own_;
};

// Of each parameter the larger of two levels: no less accurate than either.
class Larger final : public Policy {
 public:
  Larger(std::unique_ptr<Policy> a, std::unique_ptr<Policy> b, std::size_t layers)
      : a_(std::move(a)), b_(std::move(b)), layers_(layers) {}

  // The first (LEGACY's) goes by sizes and time alone, so the second has sums and probes for itself.
  Request request(const Moment& moment) const override {
    auto request = b_->request(moment);
    const auto first = a_->request(moment);
    request.every_step = request.every_step || first.every_step;
    request.plan = request.plan || first.plan;
    return request;
  }
  LevelPlan plan(const Observations& seen) override {
    auto plan = a_->plan(seen);
    const auto other = b_->plan(seen);
    for (std::size_t k = 0; k < layers_; ++k) {
      if (!plan.levels[k] || !other.levels[k]) {
        plan.levels[k].reset();
      } else {
        plan.levels[k] = std::max(*plan.levels[k], *other.levels[k]);
      }
    }
    plan.probes = other.probes;
    plan.norm = other.norm;
    plan.reason = other.reason.empty() ? plan.reason : other.reason;
    return plan;
  }
  bool counts_epochs() const override { return a_->counts_epochs() || b_->counts_epochs(); }
  bool wants_costs() const override { return a_->wants_costs() || b_->wants_costs(); }
  PolicyState state() const override {
    PolicyState all;
    for (const auto& [name, numbers] : a_->state()) all["a." + name] = numbers;
    for (const auto& [name, numbers] : b_->state()) all["b." + name] = numbers;
    return all;
  }
  void load_state(const PolicyState& state) override {
    PolicyState own, other;
    for (const auto& [name, numbers] : state) (name[0] == 'a' ? own : other)[name.substr(2)] = numbers;
    a_->load_state(own);
    b_->load_state(other);
  }

 private:
  std::unique_ptr<Policy> a_, b_;
  std::size_t layers_;
};

// With names and keys spelt as the registry has them.
MethodSpec canonical(const MethodSpec& spec, const PolicyInfo& info) {
  MethodSpec result{.name = info.name, .values = {}};
  for (const auto& [given, value] : spec.values) {
    for (const auto& key : all_keys(info)) {
      if (same_name(key.name, given)) result.values[key.name] = value;
    }
  }
  return result;
}

}  // namespace

std::vector<Level> own_levels(const PolicySetting& setting) {
  std::vector<Level> levels;
  for (const auto& layer : setting.layers) {
    levels.push_back(setting.knob == Knob::none ? Level(own_level)
                     : layer.compressed         ? Level(setting.own)
                                                : Level());
  }
  return levels;
}

std::vector<double> Policy::errors(std::size_t, const at::Tensor&) const {
  throw Error("this policy has no candidates to compute errors of");
}

bool register_policy(PolicyInfo info) {
  const auto [place, added] = table().insert({fold(info.name), std::move(info)});
  if (!added) throw Error("two policies are called " + in_quotes(place->first) + ": rename one");
  return true;
}

std::vector<const PolicyInfo*> policies() {
  std::vector<const PolicyInfo*> result;
  for (const auto& [name, info] : table()) result.push_back(&info);
  return result;
}

const PolicyInfo& find_policy(std::string_view name) {
  std::vector<std::string> known;
  for (const auto* info : policies()) {
    if (same_name(info->name, name)) return *info;
    for (const auto& alias : info->aliases) {
      if (same_name(alias, name)) return *info;
    }
    known.push_back(info->name);
  }
  throw ConfigError(unknown_name("policy", name, known));
}

std::string policies_table() {
  std::string text =
      "| policy | what it does | sets | may be followed by | source |\n| --- | --- | --- | --- | --- |\n";
  for (const auto* info : policies()) {
    std::vector<std::string> knobs;
    for (const auto knob : info->knobs) {
      if (knob != Knob::none) knobs.push_back(knob_name(knob));
    }
    text += "| `" + info->name + "`";
    for (const auto& alias : info->aliases) text += ", `" + alias + "`";
    text += " | " + info->summary + " | " + join(knobs) + " | " +
            (info->joins.empty() ? "-" : join(info->joins)) + " | " + info->source + " |\n";
  }
  text += "\n| policy | key | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const auto* info : policies()) {
    for (const auto& key : info->keys) {
      text += "| `" + info->name + "` | `" + key.name + "` | " +
              (key.default_value.empty() ? "" : "`" + key.default_value + "`") + " | " + key.help + " |\n";
    }
  }
  text +=
      "| all | `" + warmup_key.name + "` | `" + warmup_key.default_value + "` | " + warmup_key.help + " |\n";
  return text;
}

PolicySpec::PolicySpec(std::string_view text) {
  parts_ = parse_spec(text.empty() ? "uniform" : text);
  for (auto& part : parts_) {
    const auto& info = find_policy(part.name);
    const auto keys = all_keys(info);
    part.name = info.name;
    const Values check_keys(part, keys);
    part = canonical(part, info);
    if (!text_.empty()) text_ += '+';
    text_ += part.to_string();
  }
  if (parts_.size() > 2) {
    throw ConfigError("policy " + in_quotes(text_) + ": at most two can be combined");
  }
  if (parts_.size() == 2) {
    const auto& joins = find_policy(parts_[0].name).joins;
    if (std::ranges::find(joins, parts_[1].name) == joins.end()) {
      throw ConfigError("policy " + in_quotes(text_) + ": " + in_quotes(parts_[0].name) +
                        " cannot be followed by " + in_quotes(parts_[1].name) + "; " +
                        (joins.empty() ? "nothing can follow it" : "what can: " + join(joins)));
    }
    if (parts_[1].values.contains("warmup")) {
      throw ConfigError("policy " + in_quotes(text_) + ": give warmup to the first of the two");
    }
  }
  fixed_ = text_ == "uniform";
}

std::unique_ptr<Policy> PolicySpec::make(const PolicySetting& setting) const {
  const auto& first = find_policy(parts_[0].name);
  const Values values(parts_[0], all_keys(first));
  const auto warmup = values.integer("warmup", 0, 1'000'000'000'000);
  for (const auto& part : parts_) {
    const auto& info = find_policy(part.name);
    if (std::ranges::find(info.knobs, setting.knob) == info.knobs.end()) {
      std::vector<std::string> knobs;
      for (const auto knob : info.knobs) knobs.push_back(knob_name(knob));
      throw ConfigError("policy " + in_quotes(part.name) + " sets " + join(knobs) + "; the compressor " +
                        in_quotes(setting.compressor) + " has " +
                        (setting.knob == Knob::none ? "no such setting" : knob_name(setting.knob)) +
                        ": take another compressor, or policy \"uniform\"");
    }
    if (info.by_layer && !setting.by_layer) {
      throw ConfigError("policy " + in_quotes(part.name) +
                        " chooses for each parameter, and the compressor codes several together; take "
                        "granularity \"layer\"");
    }
  }
  std::unique_ptr<Policy> policy;
  if (parts_.size() == 1) {
    policy = first.make(values, setting);
  } else {
    const auto& second = find_policy(parts_[1].name);
    const Values others(parts_[1], all_keys(second));
    policy = first.join ? first.join(values, others, setting)
                        : std::make_unique<Larger>(first.make(values, setting), second.make(others, setting),
                                                   setting.layers.size());
  }
  if (warmup == 0) return policy;
  return std::make_unique<Warmup>(std::move(policy), static_cast<std::uint64_t>(warmup), setting);
}

void PolicySpec::check(PolicySetting setting) const {
  // Values are looked at when a policy is made; what only the run knows is assumed to be long enough.
  constexpr std::int64_t long_enough = 1'000'000'000'000;
  if (!setting.epochs) setting.epochs = long_enough;
  if (!setting.steps_per_epoch) setting.steps_per_epoch = long_enough;
  if (!setting.steps) setting.steps = long_enough;
  if (!setting.wire_bytes) setting.wire_bytes = [](const Layer&, const Level&) { return 0.0; };
  make(setting);
}

}  // namespace acp
