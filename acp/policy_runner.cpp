// What happens between steps: requests, plans, what is in force, and what a restart needs. Statistics are
// policy_statistics.cpp's.
#include "acp/policy_runner.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <sstream>

#include "acp/agreement.h"
#include "acp/hash.h"
#include "comm/error.h"
#include "comm/log.h"
#include "compressors/residual.h"

namespace acp {

namespace {

const std::string sum_kind = "local.policy_sum";  // a rank's own: "local" keeps it from new ranks
const std::string prefix = "policy.";
const std::string reducer_key;

PolicySetting make_setting(const Options& options, const CompressorFactory& factory,
                           std::vector<Layer> layers, int ranks) {
  PolicySetting setting;
  setting.layers = std::move(layers);
  setting.knob = factory.knob();
  setting.compressor = factory.spec();
  setting.own = factory.knob() == Knob::none ? 0 : factory.own_level();
  setting.by_layer = factory.granularity() == "layer";
  setting.world_size = ranks;
  setting.seed = options.seed();
  setting.epochs = options.epochs();
  setting.steps_per_epoch = options.steps_per_epoch();
  setting.steps = options.steps();
  auto cache = std::make_shared<std::map<double, CompressorFactory>>();
  setting.wire_bytes = [factory, cache](const Layer& layer, const Level& level) {
    if (!level) return static_cast<double>(layer.numel() * layer.element_size);
    auto found = cache->find(*level);
    if (found == cache->end()) found = cache->emplace(*level, factory.at_level(*level)).first;
    return found->second.wire_bytes(layer.shape, layer.element_size);
  };
  return setting;
}

at::Tensor to_tensor(const std::vector<double>& numbers) {
  return at::tensor(numbers, at::kDouble);
}

std::vector<double> to_numbers(const at::Tensor& tensor) {
  const auto flat = tensor.to(at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

bool same(const std::vector<Level>& a, const std::vector<Level>& b) {
  const auto equal = [](const Level& x, const Level& y) {
    return x == y || (x && y && std::isnan(*x) && std::isnan(*y));
  };
  return std::ranges::equal(a, b, equal);
}

}  // namespace

PolicyRunner::PolicyRunner(const Options& options, const CompressorFactory& factory,
                           std::vector<Layer> layers, Communicator& control)
    : options_(options),
      spec_(options.policy()),
      setting_(make_setting(options, factory, std::move(layers), control.size())),
      policy_(spec_.make(setting_)),
      control_(control),
      levels_(own_levels(setting_)),
      wanted_(levels_),
      sums_(setting_.layers.size()),
      learning_rate_(std::numeric_limits<double>::quiet_NaN()) {
  int next = 0;
  for (std::size_t l = 0; l < setting_.layers.size(); ++l) {
    index_[setting_.layers[l].name] = l;
    owner_.push_back(setting_.layers[l].compressed ? next++ % control.size() : -1);
  }
}

std::vector<std::string> PolicyRunner::settings() const {
  const auto text = [](const char* name, const std::optional<std::int64_t>& number) {
    return std::string(name) + "=" + (number ? std::to_string(*number) : "unknown");
  };
  return {"policy=" + spec_.text(), text("epochs", setting_.epochs),
          text("steps_per_epoch", setting_.steps_per_epoch), text("steps", setting_.steps)};
}

Moment PolicyRunner::moment() const {
  if (!setting_.steps_per_epoch || epoch_started_) return {steps_, epoch_, new_epoch_};
  const auto length = static_cast<std::uint64_t>(*setting_.steps_per_epoch);
  return {steps_, steps_ / length, steps_ > 0 && steps_ % length == 0};
}

void PolicyRunner::attach(Engine& engine) {
  engine_ = &engine;
  if (policy_->wants_costs()) costs_ = measure_link();
  if (!planned_) {
    Observations seen;
    seen.moment = moment();
    seen.costs = costs_;
    if (policy_->counts_epochs() && !setting_.steps_per_epoch && !epoch_started_) {
      throw ConfigError("policy " + spec_.text() +
                        " counts epochs: call start_epoch(e) before the first step of each, or set "
                        "Options::steps_per_epoch(n)");
    }
    const auto own = levels_;
    adopt(policy_->plan(seen));
    if (control_.rank() == 0 && !same(wanted_, own)) {
      log_info("policy " + spec_.text() + " sets the " + knob_name(setting_.knob) + " of " +
               setting_.compressor + ", in place of the compressor's own");
    }
    prepare_step(policy_->request(seen.moment));
    apply();
    changes_ = 0;  // it has not been otherwise before
    planned_ = true;
    late_epoch_ = false;
    return;
  }
  engine.between_steps([&](auto& compressors, std::uint64_t&) {
    for (const auto& compressor : compressors) compressor->set_probes(probes_);
    hand_out(compressors);
  });
  prepare_step(policy_->request(moment()));
  if (std::exchange(late_epoch_, false)) enter_epoch();
}

void PolicyRunner::hand_out(std::vector<std::unique_ptr<Compressor>>& compressors) const {
  for (std::size_t b = 0; b < compressors.size(); ++b) {
    std::vector<Level> levels;
    for (const auto& slice : engine_->bucket(b).slices) levels.push_back(levels_[index_.at(slice.name)]);
    compressors[b]->set_levels(levels);
  }
}

void PolicyRunner::prepare_step(const Request& request) {
  accumulate_ = request.accumulate;
  restart_ = request.restart;
  weight_ = request.weight;
  one_rank_ = request.one_rank;
  if (!restart_ || engine_ == nullptr) return;
  const auto now = engine_->statistics();
  coding_seconds_ = now.encode_seconds + now.decode_seconds;
  coding_steps_ = now.steps;
}

void PolicyRunner::after_step() {
  ++steps_;
  new_epoch_ = false;
  const auto now = moment();
  advance(now);
  // Between epochs there are evaluations.
  mark_ = now.new_epoch ? std::nullopt : std::optional(Clock::now());
}

void PolicyRunner::start_epoch(std::uint64_t epoch) {
  check_agreement(control_, "epoch", {"start_epoch(" + std::to_string(epoch) + ")"});
  const bool next = epoch != moment().epoch;
  epoch_started_ = true;
  epoch_ = epoch;
  mark_.reset();
  if (!next || !policy_->counts_epochs()) return;
  new_epoch_ = true;
  late_epoch_ = engine_ == nullptr;  // restored, but not laid out yet: at attach()
  if (!late_epoch_) enter_epoch();
}

void PolicyRunner::enter_epoch() {
  probes_.clear();  // the step before has been seen already
  advance(moment());
}

void PolicyRunner::advance(const Moment& now) {
  const auto request = policy_->request(now);
  if (request.begin_errors) begin_errors();
  Observations seen;
  seen.moment = now;
  if (request.every_step) agree_measures(seen);
  if (request.norms) seen.norms = agree_norms();
  if (request.errors) agree_errors(seen);
  seen.costs = costs_;
  adopt(policy_->plan(seen));
  apply();
  prepare_step(request);
}

void PolicyRunner::adopt(LevelPlan plan) {
  if (plan.levels.empty()) plan.levels = own_levels(setting_);
  if (plan.levels.size() != setting_.layers.size()) {
    throw Error("policy " + spec_.text() + " planned " + std::to_string(plan.levels.size()) + " levels for " +
                std::to_string(setting_.layers.size()) + " parameters");
  }
  if (!plan.reason.empty()) reason_ = plan.reason;
  norm_ = plan.norm;
  wanted_ = std::move(plan.levels);
  if (plan.probes == probes_ && planned_) return;
  probes_ = std::move(plan.probes);
  engine_->between_steps([&](auto& compressors, std::uint64_t&) {
    for (const auto& compressor : compressors) compressor->set_probes(probes_);
  });
}

// What is wanted comes into force, unless a compressor has to wait for another step.
void PolicyRunner::apply() {
  if (same(levels_, wanted_)) return;
  std::vector<std::string> lines;
  for (const auto& level : wanted_) lines.push_back(level ? std::to_string(*level) : "dense");
  check_agreement(control_, "planned level of parameter", lines);
  const auto before = levels_;
  engine_->between_steps([&](auto& compressors, std::uint64_t& step) {
    if (!std::ranges::all_of(compressors, [&](const auto& c) { return c->may_change(step); })) return;
    levels_ = wanted_;
    hand_out(compressors);
  });
  if (same(before, levels_)) return;
  ++changes_;
  if (planned_) log_change(before);
}

void PolicyRunner::log_change(const std::vector<Level>& before) const {
  if (control_.rank() != 0) return;
  std::size_t changed = 0, dense = 0, given = 0;
  double least = 0, most = 0, sum = 0;
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    changed += !same({before[l]}, {levels_[l]});
    if (!levels_[l]) {
      ++dense;
      continue;
    }
    least = given == 0 ? *levels_[l] : std::min(least, *levels_[l]);
    most = given == 0 ? *levels_[l] : std::max(most, *levels_[l]);
    sum += *levels_[l];
    ++given;
  }
  std::ostringstream text;
  text << "policy " << spec_.text() << ": before step " << steps_ << " " << changed << " of "
       << levels_.size() << " parameters change";
  if (given > 0) {
    text << "; " << knob_name(setting_.knob) << " " << least << " to " << most << ", mean "
         << sum / static_cast<double>(given);
  }
  text << "; " << dense << " whole" << (reason_.empty() ? "" : " (" + reason_ + ")");
  log_info(text.str());
}

std::string PolicyRunner::signature() const {
  Hash hash;
  for (const auto& layer : setting_.layers) hash.add(layer.name);
  return spec_.text() + " " + setting_.compressor + " " + to_hex(hash.value());
}

void PolicyRunner::save(State& state) {
  mark_.reset();
  auto& own = state[reducer_key];
  const auto text = signature();
  const auto bytes = at::empty({static_cast<std::int64_t>(text.size())}, at::kByte);
  std::memcpy(bytes.data_ptr(), text.data(), text.size());
  own[prefix + "signature"] = bytes;
  std::vector<double> levels, wanted;
  for (const auto& level : levels_) levels.push_back(level.value_or(0));
  for (const auto& level : wanted_) wanted.push_back(level.value_or(0));
  own[prefix + "levels"] = to_tensor(levels);
  own[prefix + "wanted"] = to_tensor(wanted);
  own[prefix + "probes"] = to_tensor(probes_);
  own[prefix + "runner"] =
      to_tensor({static_cast<double>(epoch_), epoch_started_ ? 1. : 0., new_epoch_ ? 1. : 0.,
                 errors_.valid() ? 1. : 0., static_cast<double>(changes_), norm_ == NormOf::sum ? 0. : 1.});
  for (const auto& [name, numbers] : policy_->state()) own[prefix + "own." + name] = to_tensor(numbers);
  for (std::size_t l = 0; l < sums_.size(); ++l) {
    if (sums_[l].defined()) state[setting_.layers[l].name][sum_kind] = sums_[l].clone();
  }
}

void PolicyRunner::load(const State& state, std::uint64_t step) {
  steps_ = step;
  mark_.reset();
  const auto saved = find_state(state, reducer_key, prefix + "signature");
  const auto text = saved.defined() ? std::string(static_cast<const char*>(saved.const_data_ptr()),
                                                  static_cast<std::size_t>(saved.numel()))
                                    : std::string();
  if (text != signature()) {
    if (control_.rank() == 0 && step > 0) {
      log_warning("the checkpoint's run had another policy or compressor: policy " + spec_.text() +
                  " begins anew");
    }
    return;
  }
  const auto numbers = [&](const std::string& name) {
    const auto tensor = find_state(state, reducer_key, prefix + name);
    return tensor.defined() ? to_numbers(tensor) : std::vector<double>();
  };
  const auto levels_of = [&](const std::string& name) {
    std::vector<Level> levels;
    for (const double level : numbers(name)) levels.push_back(level == 0 ? Level() : Level(level));
    return levels;
  };
  const auto runner = numbers("runner");
  const auto levels = levels_of("levels"), wanted = levels_of("wanted");
  if (runner.size() != 6 || levels.size() != levels_.size() || wanted.size() != levels_.size()) {
    throw ConfigError("the policy's part of the saved state is damaged");
  }
  PolicyState own;
  const auto& kinds = state.at(reducer_key);
  for (const auto& [kind, tensor] : kinds) {
    const auto begin = prefix + "own.";
    if (kind.starts_with(begin)) own[kind.substr(begin.size())] = to_numbers(tensor);
  }
  policy_->load_state(own);
  epoch_ = static_cast<std::uint64_t>(runner[0]);
  epoch_started_ = runner[1] != 0;
  new_epoch_ = runner[2] != 0;
  changes_ = static_cast<std::uint64_t>(runner[4]);
  norm_ = runner[5] == 0 ? NormOf::sum : NormOf::squares;
  probes_ = numbers("probes");
  wanted_ = wanted;
  levels_ = levels;
  for (std::size_t l = 0; l < sums_.size(); ++l) {
    sums_[l] = find_state(state, setting_.layers[l].name, sum_kind);
    if (sums_[l].defined()) sums_[l] = sums_[l].clone();
  }
  if (runner[3] != 0) begin_errors();
  planned_ = true;
  if (engine_ != nullptr) attach(*engine_);
}

}  // namespace acp
