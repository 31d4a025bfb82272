// What a restart needs of a policy: its state, its plan, and what has been added up.
#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "acp/hash.h"
#include "acp/policy_runner.h"
#include "comm/error.h"
#include "comm/log.h"
#include "compressors/residual.h"

namespace acp {

namespace {

const std::string sum_kind = "local.policy_sum";  // a rank's own: "local" keeps it from new ranks
const std::string prefix = "policy.";
const std::string reducer_key;

at::Tensor to_tensor(const std::vector<double>& numbers) {
  return at::tensor(numbers, at::kDouble);
}

std::vector<double> to_numbers(const at::Tensor& tensor) {
  const auto flat = tensor.to(at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

}  // namespace

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
  own[prefix + "runner"] = to_tensor(
      {static_cast<double>(epoch_), epoch_started_ ? 1. : 0., new_epoch_ ? 1. : 0., errors_.valid() ? 1. : 0.,
       static_cast<double>(changes_), norm_ == NormOf::sum ? 0. : 1., static_cast<double>(epoch_step_),
       static_cast<double>(setting_.steps_per_epoch.value_or(0))});
  if (costs_.gamma) own[prefix + "gamma"] = to_tensor({*costs_.gamma});
  for (const auto& [name, numbers] : policy_->state()) own[prefix + "own." + name] = to_tensor(numbers);
  for (std::size_t l = 0; l < sums_.size(); ++l) {
    if (sums_[l].defined()) state[setting_.layers[l].name][sum_kind] = sums_[l].clone();
  }
}

// As if nothing had run yet.
void PolicyRunner::reset() {
  if (errors_.valid()) errors_.wait();  // they are the old policy's
  errors_ = {};
  policy_ = spec_.make(setting_);
  levels_ = wanted_ = own_levels(setting_);
  probes_.clear();
  norm_ = NormOf::sum;
  reason_.clear();
  planned_ = handed_out_ = restored_ = late_epoch_ = new_epoch_ = false;
  changes_ = 0;
  costs_.gamma.reset();
  accumulate_ = Accumulate::none;
  for (auto& sum : sums_) sum.reset();
  mark_.reset();
}

void PolicyRunner::load(const State& state, std::uint64_t step) {
  reset();
  steps_ = step;
  if (setting_.steps_per_epoch && !epoch_started_) {  // unless the state knows better
    const auto length = static_cast<std::uint64_t>(*setting_.steps_per_epoch);
    epoch_ = step / length;
    epoch_step_ = step % length;
    new_epoch_ = step > 0 && epoch_step_ == 0;
  }
  const auto saved = find_state(state, reducer_key, prefix + "signature");
  const auto text = saved.defined() ? std::string(static_cast<const char*>(saved.const_data_ptr()),
                                                  static_cast<std::size_t>(saved.numel()))
                                    : std::string();
  if (text != signature()) {
    if (control_.rank() == 0 && step > 0) {
      log_warning("the checkpoint's run had another policy or compressor: policy " + spec_.text() +
                  " begins anew");
    }
    if (engine_ != nullptr) attach(*engine_);
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
  if ((runner.size() != 6 && runner.size() != 8) || levels.size() != levels_.size() ||
      wanted.size() != levels_.size()) {
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
  if (runner.size() == 8) {  // of another number of ranks an epoch can have another length
    const bool scaled = setting_.steps_per_epoch && runner[7] > 0;
    const double length = scaled ? static_cast<double>(*setting_.steps_per_epoch) / runner[7] : 1;
    epoch_step_ = static_cast<std::uint64_t>(runner[6] * length);
  }
  changes_ = static_cast<std::uint64_t>(runner[4]);
  norm_ = runner[5] == 0 ? NormOf::sum : NormOf::squares;
  if (const auto gamma = numbers("gamma"); gamma.size() == 1) costs_.gamma = gamma[0];
  probes_ = numbers("probes");
  wanted_ = wanted;
  levels_ = levels;
  for (std::size_t l = 0; l < sums_.size(); ++l) {
    sums_[l] = find_state(state, setting_.layers[l].name, sum_kind);
    if (sums_[l].defined()) sums_[l] = sums_[l].clone();
  }
  if (runner[3] != 0) begin_errors();
  planned_ = restored_ = true;
  if (engine_ != nullptr) attach(*engine_);
}

}  // namespace acp
