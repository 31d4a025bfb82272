// What happens between steps: requests, plans, and what is in force. Statistics are policy_statistics.cpp's,
// what a restart needs policy_state.cpp's.
#include "acp/policy_runner.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <map>
#include <span>
#include <sstream>

#include "acp/agreement.h"
#include "acp/hash.h"
#include "comm/error.h"
#include "comm/link_cost.h"
#include "comm/log.h"

namespace acp {

namespace {

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

void add(Hash& hash, const std::vector<double>& numbers) {
  hash.add(std::as_bytes(std::span(numbers)));
}

// Of a plan, and of what the policy has come to: equal ones go on alike. Never 0.
std::int64_t hash_of(const PolicyState& state, const LevelPlan& plan) {
  Hash hash;
  for (const auto& [name, numbers] : state) {
    hash.add(name);
    add(hash, numbers);
  }
  std::vector<double> numbers;
  for (const auto& level : plan.levels) numbers.push_back(level.value_or(0));
  add(hash, numbers);
  add(hash, plan.probes);
  add(hash, {static_cast<double>(plan.norm)});
  return static_cast<std::int64_t>(hash.value() | 1U);
}

bool same(const std::vector<Level>& a, const std::vector<Level>& b) {
  const auto equal = [](const Level& x, const Level& y) {
    return x == y || (x && y && std::isnan(*x) && std::isnan(*y));
  };
  return std::ranges::equal(a, b, equal);
}

}  // namespace

PolicyRunner::PolicyRunner(const Options& options, const CompressorFactory& factory,
                           std::vector<Layer> layers, Communicator& control, const LinkCost& link)
    : spec_(options.policy()),
      setting_(make_setting(options, factory, std::move(layers), control.size())),
      policy_(spec_.make(setting_)),
      control_(control),
      levels_(own_levels(setting_)),
      wanted_(levels_),
      sums_(setting_.layers.size()),
      costs_(exchange_costs(link, control.size(), factory.exchange())),
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

void PolicyRunner::attach(Engine& engine) {
  engine_ = &engine;
  if (policy_->wants_costs() && control_.rank() == 0) {
    std::ostringstream text;
    text << "policy " << spec_.text() << ": a compressed byte costs " << costs_.beta * 1e9
         << " ns, a byte of a whole tensor " << costs_.dense * 1e9 << " ns";
    log_info(text.str());
  }
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
    decide(seen);
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
    handed_out_ = true;
  });
  prepare_step(policy_->request(moment()));
  if (std::exchange(late_epoch_, false)) advance(moment(), false);
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
  ++epoch_step_;
  new_epoch_ = !epoch_started_ && setting_.steps_per_epoch &&
               epoch_step_ >= static_cast<std::uint64_t>(*setting_.steps_per_epoch);
  if (new_epoch_) {
    ++epoch_;
    epoch_step_ = 0;
  }
  const auto now = moment();
  advance(now, true);
  // Between epochs there are evaluations.
  mark_ = now.new_epoch ? std::nullopt : std::optional(Clock::now());
}

void PolicyRunner::start_epoch(std::uint64_t epoch) {
  check_agreement(control_, "epoch", {"start_epoch(" + std::to_string(epoch) + ")"});
  const bool next = epoch != epoch_;
  if (next || !epoch_started_) epoch_step_ = 0;  // else a run goes on in the middle of this epoch
  epoch_started_ = true;
  epoch_ = epoch;
  mark_.reset();
  if (!next || !policy_->counts_epochs()) return;
  new_epoch_ = true;
  late_epoch_ = engine_ == nullptr;  // restored, but not laid out yet: at attach()
  if (!late_epoch_) advance(moment(), false);
}

// `step_ended`: else the step before has been seen already.
void PolicyRunner::advance(const Moment& now, bool step_ended) {
  const auto request = policy_->request(now);
  if (request.begin_errors) begin_errors();
  Observations seen;
  seen.moment = now;
  if (request.every_step) agree_measures(seen, step_ended);
  if (request.norms) seen.norms = agree_norms();
  if (request.errors) agree_errors(seen);
  seen.costs = costs_;
  // A restored plan was made for what the run was then said to be.
  if (std::exchange(restored_, false) || request.plan) decide(seen);
  apply();
  prepare_step(request);
}

// Whatever a policy does on one rank, all ranks leave this with the same plan, or with an error: nothing that
// a rank has found alone decides whether it takes part.
void PolicyRunner::decide(const Observations& seen) {
  LevelPlan plan;
  std::exception_ptr error;
  std::int64_t hash = 0;  // stays 0 on failure
  try {
    plan = policy_->plan(seen);
    if (plan.levels.empty()) plan.levels = own_levels(setting_);
    if (plan.levels.size() != setting_.layers.size()) {
      throw Error("policy " + spec_.text() + " planned " + std::to_string(plan.levels.size()) +
                  " levels for " + std::to_string(setting_.layers.size()) + " parameters");
    }
    hash = hash_of(policy_->state(), plan);
  } catch (...) {
    error = std::current_exception();
  }
  const auto count = control_.size();
  const auto all = at::empty({count}, at::kLong);
  auto op = Collective::all_gather(at::full({1}, hash, at::kLong), all);
  op.label = "hash of the policy's plan, after step " + std::to_string(steps_);
  perform(control_, std::move(op));
  const std::span hashes(all.const_data_ptr<std::int64_t>(), static_cast<std::size_t>(count));
  if (std::ranges::find(hashes, 0) != hashes.end()) {
    together(control_, [&] {
      if (error) std::rethrow_exception(error);
    });
  }
  const auto other = std::ranges::find_if(hashes, [&](std::int64_t each) { return each != hashes[0]; });
  if (other != hashes.end()) {
    throw Error("policy " + spec_.text() + " has come to another plan on rank " +
                std::to_string(other - hashes.begin()) + " than on rank 0, after step " +
                std::to_string(steps_) + "; every policy must be a function of what all ranks share");
  }
  adopt(std::move(plan));
}

void PolicyRunner::adopt(LevelPlan plan) {
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
  if (handed_out_ && same(levels_, wanted_)) return;
  const auto before = levels_;
  engine_->between_steps([&](auto& compressors, std::uint64_t& step) {
    if (!std::ranges::all_of(compressors, [&](const auto& c) { return c->may_change(step); })) return;
    levels_ = wanted_;
    hand_out(compressors);
    handed_out_ = true;
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

}  // namespace acp
