// See policy_runner.h. Whatever differs between ranks is gathered in rank order and reduced by everyone
// alike, so that all ranks hand the policy the same bits.
#include "acp/policy_runner.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <sstream>

#include "acp/agreement.h"
#include "acp/hash.h"
#include "comm/error.h"
#include "comm/log.h"
#include "compressors/residual.h"

namespace acp {

namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
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
  const auto result = at::empty({static_cast<std::int64_t>(numbers.size())}, at::kDouble);
  std::ranges::copy(numbers, result.data_ptr<double>());
  return result;
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

void add(Hash& hash, const std::vector<double>& numbers) {
  hash.add(std::as_bytes(std::span(numbers)));
}

// 53 bits of a hash, which a double holds.
double hash_number(const PolicyState& state, const std::vector<Level>& levels) {
  Hash hash;
  for (const auto& [name, numbers] : state) {
    hash.add(name);
    add(hash, numbers);
  }
  std::vector<double> numbers;
  for (const auto& level : levels) numbers.push_back(level.value_or(0));
  add(hash, numbers);
  return static_cast<double>(hash.value() >> 11U);
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
      learning_rate_(unknown) {
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

bool PolicyRunner::owns(std::size_t layer) const {
  return owner_[layer] == control_.rank();
}

void PolicyRunner::observe(const Bucket& bucket, const Compressor& compressor) {
  if (accumulate_ == Accumulate::none) return;
  const auto memory = accumulate_ == Accumulate::inputs ? compressor.error_memory() : at::Tensor();
  for (std::size_t k = 0; k < bucket.slices.size(); ++k) {
    const auto& slice = bucket.slices[k];
    const auto l = index_.at(slice.name);
    if (owner_[l] < 0 || (one_rank_ && !owns(l))) continue;
    auto& sum = sums_[l];
    if (restart_) {
      const auto type = bucket.grads.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
      sum = at::zeros({slice.rows, slice.cols}, bucket.grads.options().dtype(type));
    }
    if (!sum.defined()) continue;  // restored in the middle of a window, without what was added before
    if (bucket.used[k] != 0) sum.add_(bucket.matrix(slice), weight_);
    if (memory.defined())
      sum.add_(memory.narrow(0, slice.offset, slice.numel()).view({slice.rows, slice.cols}), weight_);
  }
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

// All ranks' numbers, each rank's with a hash of what its policy has come to: equal ones decide alike.
std::vector<std::vector<double>> PolicyRunner::gather(std::vector<double> mine, const char* label) {
  mine.push_back(hash_number(policy_->state(), wanted_));
  const auto count = static_cast<std::int64_t>(mine.size());
  const auto all = at::empty({control_.size() * count}, at::kDouble);
  auto op = Collective::all_gather(to_tensor(mine), all);
  op.label = std::string(label) + " for the policy, after step " + std::to_string(steps_);
  perform(control_, std::move(op));
  std::vector<std::vector<double>> ranks;
  const double* const numbers = all.const_data_ptr<double>();
  for (int r = 0; r < control_.size(); ++r) {
    const double* const begin = numbers + r * count;
    if (begin[count - 1] != numbers[count - 1]) {
      throw Error("policy " + spec_.text() + " has come to another state on rank " + std::to_string(r) +
                  " than on rank 0, after step " + std::to_string(steps_) +
                  "; every policy must be a function of what all ranks share");
    }
    ranks.emplace_back(begin, begin + count - 1);
  }
  return ranks;
}

// The longest time, the means of the norms, rank 0's learning rate.
void PolicyRunner::agree_measures(Observations& seen) {
  std::vector<double> mine{learning_rate_,
                           mark_ ? std::chrono::duration<double>(Clock::now() - *mark_).count() : unknown};
  LayerNorms raw, input;
  std::vector<LayerNorms> kept(probes_.size());
  if (!probes_.empty()) {
    engine_->between_steps([&](auto& compressors, std::uint64_t&) {
      const auto total = [](LayerNorms& sum, const LayerNorms& part) {
        sum.sum += part.sum;
        sum.squares += part.squares;
      };
      for (const auto& compressor : compressors) {
        const auto& norms = compressor->probe_norms();
        total(raw, norms.gradient);
        total(input, norms.input);
        for (std::size_t i = 0; i < std::min(kept.size(), norms.kept.size()); ++i)
          total(kept[i], norms.kept[i]);
      }
    });
    const auto number = [&](const LayerNorms& norms) {
      return norm_ == NormOf::sum ? norms.sum : norms.squares;
    };
    mine.push_back(number(raw));
    mine.push_back(number(input));
    for (const auto& norms : kept) mine.push_back(number(norms));
  }
  const auto ranks = gather(std::move(mine), "measures");
  if (!std::isnan(ranks[0][0])) seen.learning_rate = ranks[0][0];
  if (probes_.empty()) return;
  StepMeasure measure;
  const auto mean = [&](std::size_t i) {
    double sum = 0;
    for (const auto& numbers : ranks) sum += numbers[i];
    return sum / static_cast<double>(ranks.size());
  };
  for (const auto& numbers : ranks) {
    // A step that one rank did not time has no time.
    measure.seconds = std::isnan(numbers[1]) || std::isnan(measure.seconds)
                          ? unknown
                          : std::max(measure.seconds, numbers[1]);
  }
  measure.raw = mean(2);
  measure.input = mean(3);
  for (std::size_t i = 0; i < kept.size(); ++i) measure.kept.push_back(mean(4 + i));
  seen.measured = measure;
}

std::vector<double> PolicyRunner::agree_norms() {
  std::vector<double> squares;
  for (std::size_t l = 0; l < sums_.size(); ++l) {
    double norm = owner_[l] < 0 ? 0 : unknown;
    if (sums_[l].defined()) norm = sums_[l].norm(2, at::kDouble).item<double>();
    squares.push_back(norm * norm);
  }
  const auto ranks = gather(std::move(squares), "norms");
  std::vector<double> norms(sums_.size(), 0.0);
  for (const auto& numbers : ranks) {
    for (std::size_t l = 0; l < norms.size(); ++l) norms[l] += numbers[l];
  }
  for (auto& norm : norms) norm = std::sqrt(norm / static_cast<double>(ranks.size()));
  return norms;
}

void PolicyRunner::begin_errors() {
  // The sums rest until the errors are taken: windows begin after that.
  std::vector<std::pair<std::size_t, at::Tensor>> own;
  for (std::size_t l = 0; l < sums_.size(); ++l) {
    if (owns(l)) own.emplace_back(l, sums_[l]);
  }
  errors_ = std::async(std::launch::async, [policy = policy_.get(), own = std::move(own)] {
    const c10::NoGradGuard no_grad;
    at::init_num_threads();
    Rows rows;
    for (const auto& [l, sum] : own) {
      rows.emplace_back(l, sum.defined() ? policy->errors(l, sum) : std::vector<double>{unknown});
    }
    return rows;
  });
}

// Every rank's rows, and what coding costs each; not valid unless every layer's row is complete.
void PolicyRunner::agree_errors(Observations& seen) {
  std::vector<double> mine;
  together(control_, [&] {
    if (!errors_.valid()) return;  // restored without them
    for (const auto& [l, row] : errors_.get()) {
      mine.push_back(static_cast<double>(l));
      mine.push_back(static_cast<double>(row.size()));
      mine.insert(mine.end(), row.begin(), row.end());
    }
  });
  const auto statistics = engine_->statistics();
  const auto steps = static_cast<double>(statistics.steps - coding_steps_);
  const double coding =
      steps > 0 ? (statistics.encode_seconds + statistics.decode_seconds - coding_seconds_) / steps : 0;
  double sum = 0;
  for (const auto& numbers : gather({coding}, "costs")) sum += numbers[0];
  if (const double numbers = work(); numbers > 0) costs_.gamma = sum / control_.size() / numbers;

  const std::string_view bytes(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(double));
  std::vector<std::vector<double>> table(sums_.size());
  for (const auto& part : all_gather_bytes(control_, bytes)) {
    std::vector<double> numbers(part.size() / sizeof(double));
    std::memcpy(numbers.data(), part.data(), numbers.size() * sizeof(double));
    for (std::size_t at = 0; at + 2 <= numbers.size();) {
      const auto l = static_cast<std::size_t>(numbers[at]), count = static_cast<std::size_t>(numbers[at + 1]);
      table.at(l).assign(numbers.begin() + static_cast<std::ptrdiff_t>(at + 2),
                         numbers.begin() + static_cast<std::ptrdiff_t>(at + 2 + count));
      at += 2 + count;
    }
  }
  for (std::size_t l = 0; l < table.size(); ++l) {
    const auto bad = [](double x) { return !std::isfinite(x); };
    if (owner_[l] >= 0 && (table[l].empty() || std::ranges::any_of(table[l], bad))) return;
  }
  seen.errors = std::move(table);
}

double PolicyRunner::work() const {
  double sum = 0;
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    const auto& layer = setting_.layers[l];
    if (!levels_[l] || std::isnan(*levels_[l])) continue;
    const double rank =
        setting_.knob == Knob::rank
            ? std::min({*levels_[l], static_cast<double>(layer.rows), static_cast<double>(layer.cols)})
            : 1;
    sum += rank * static_cast<double>(layer.numel());
  }
  return sum;
}

// Two all-reduces of the backend in use, each the best of some tries; the slowest rank counts.
CostModel PolicyRunner::measure_link() {
  constexpr int tries = 5;
  constexpr std::int64_t small = 16, large = 1 << 18;  // numbers of 4 bytes
  const auto seconds = [&](std::int64_t count) {
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < tries; ++i) {
      auto op = Collective::all_reduce(at::zeros({count}, at::kFloat));
      op.algorithm = options_.algorithm();
      op.label = "measurement of the network for the policy";
      const auto begin = Clock::now();
      perform(control_, std::move(op));
      best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
    }
    return best;
  };
  std::vector<double> longest(2, 0.0);
  for (const auto& numbers : gather({seconds(small), seconds(large)}, "network")) {
    for (std::size_t i = 0; i < longest.size(); ++i) longest[i] = std::max(longest[i], numbers[i]);
  }
  const auto costs = fit_costs(4.0 * small, longest[0], 4.0 * large, longest[1]);
  if (control_.rank() == 0) {
    std::ostringstream text;
    text << "policy " << spec_.text() << ": a message costs " << costs.alpha * 1e6 << " us and "
         << costs.beta * 1e9 << " ns per byte";
    log_info(text.str());
  }
  return costs;
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
