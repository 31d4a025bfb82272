// What a policy asks for: sums of gradients, norms, errors of candidates, times. Whatever differs between
// ranks is gathered in rank order and reduced by everyone alike, so that all ranks hand the policy the same
// bits.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "acp/agreement.h"
#include "acp/policy_runner.h"

namespace acp {

namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

}  // namespace

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
    if (sum.device() != bucket.grads.device()) sum = sum.to(bucket.grads.device());  // restored from a file
    if (bucket.used[k] != 0) sum.add_(bucket.matrix(slice), weight_);
    if (!memory.defined()) continue;
    const auto kept = memory.narrow(0, slice.offset, slice.numel()).view({slice.rows, slice.cols});
    sum.add_(kept.to(sum.device()), weight_);  // staged compressors keep theirs on the host
  }
}

std::vector<std::vector<double>> PolicyRunner::gather(const std::vector<double>& mine, const char* label) {
  const auto count = static_cast<std::int64_t>(mine.size());
  const auto all = at::empty({control_.size() * count}, at::kDouble);
  auto op = Collective::all_gather(at::tensor(mine, at::kDouble), all);
  op.label = std::string(label) + " for the policy, after step " + std::to_string(steps_);
  perform(control_, std::move(op));
  std::vector<std::vector<double>> ranks;
  ranks.reserve(static_cast<std::size_t>(control_.size()));
  const double* const numbers = all.const_data_ptr<double>();
  for (int r = 0; r < control_.size(); ++r)
    ranks.emplace_back(numbers + r * count, numbers + (r + 1) * count);
  return ranks;
}

// The longest time, the means of the norms, rank 0's learning rate.
void PolicyRunner::agree_measures(Observations& seen, bool step_ended) {
  std::vector<double> mine{learning_rate_,
                           mark_ ? std::chrono::duration<double>(Clock::now() - *mark_).count() : unknown};
  LayerNorms raw, input;
  std::vector<LayerNorms> kept(probes_.size());
  const bool probed = step_ended && !probes_.empty();
  if (probed) {
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
  const auto ranks = gather(mine, "measures");
  if (!std::isnan(ranks[0][0])) seen.learning_rate = ranks[0][0];
  if (!probed) return;
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
  const auto ranks = gather(squares, "norms");
  std::vector<double> norms(sums_.size(), 0.0);
  for (const auto& numbers : ranks) {
    for (std::size_t l = 0; l < norms.size(); ++l) norms[l] += numbers[l];
  }
  for (auto& norm : norms) norm = std::sqrt(norm / static_cast<double>(ranks.size()));
  return norms;
}

void PolicyRunner::begin_errors() {
  // The sums rest until the errors are taken: windows begin after that. Errors are computed by the CPU.
  std::vector<std::pair<std::size_t, at::Tensor>> own;
  for (std::size_t l = 0; l < sums_.size(); ++l) {
    if (owns(l)) own.emplace_back(l, sums_[l].defined() ? sums_[l].cpu() : sums_[l]);
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

// Every rank's rows; not valid unless every layer's row is complete.
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
  if (policy_->wants_costs()) agree_costs();

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

// What coding has cost since the window began, as the mean of the ranks; as before where nothing was coded.
void PolicyRunner::agree_costs() {
  const auto statistics = engine_->statistics();
  const auto steps = static_cast<double>(statistics.steps - coding_steps_);
  const double seconds = statistics.encode_seconds + statistics.decode_seconds - coding_seconds_;
  double sum = 0;
  for (const auto& numbers : gather({steps > 0 ? seconds / steps : unknown}, "costs")) sum += numbers[0];
  const double numbers = work();
  if (numbers > 0 && std::isfinite(sum)) costs_.gamma = sum / control_.size() / numbers;
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

}  // namespace acp
