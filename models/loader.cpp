// Batches of a data set for one rank: shuffled, sharded, prefetched.
#include "models/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <numeric>
#include <stop_token>
#include <thread>

#include "comm/deadline.h"
#include "comm/error.h"
#include "models/random.h"

namespace acp::models {
namespace {

void check(const LoaderOptions& options) {
  if (options.size < 1 || options.rank < 0 || options.rank >= options.size) {
    throw ConfigError("data loader: rank " + std::to_string(options.rank) + " of " +
                      std::to_string(options.size) + " ranks");
  }
  const auto positive = [](std::int64_t value, const char* what) {
    if (value < 1)
      throw ConfigError(std::string(what) + " " + std::to_string(value) + ": at least 1 is needed");
  };
  positive(options.batch_size, "batch size");
  positive(options.passes_per_step, "backward passes per step");
  positive(options.prefetch, "batches to prefetch");
}

// Batches of one epoch on each rank.
std::int64_t training_batches(std::int64_t count, const LoaderOptions& options) {
  const std::int64_t whole = count / options.size / options.batch_size;
  return whole - whole % options.passes_per_step;
}

}  // namespace

std::vector<std::int64_t> permutation(std::int64_t count, std::uint64_t seed, std::int64_t epoch) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  Random random{{seed, static_cast<std::uint64_t>(epoch)}};
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i)))]);
  }
  return order;
}

BatchPlan training_plan(std::int64_t count, std::int64_t epoch, const LoaderOptions& options) {
  check(options);
  BatchPlan plan;
  const auto batches = training_batches(count, options);
  if (options.order == Order::contiguous) {
    const std::int64_t length = count / options.size / options.batch_size;
    for (std::int64_t k = 0; k < batches; ++k) {
      auto& batch = plan.emplace_back();
      for (std::int64_t b = 0; b < options.batch_size; ++b)
        batch.push_back((options.rank * options.batch_size + b) * length + k);
    }
    return plan;
  }
  const auto order = permutation(count, options.seed, epoch);
  for (std::int64_t k = 0; k < batches; ++k) {
    const auto begin = order.begin() + (k * options.size + options.rank) * options.batch_size;
    plan.emplace_back(begin, begin + options.batch_size);
  }
  return plan;
}

BatchPlan evaluation_plan(std::int64_t count, const LoaderOptions& options) {
  check(options);
  const auto first_of = [&](std::int64_t rank) {
    return count / options.size * rank + std::min(rank, count % options.size);
  };
  const std::int64_t end = first_of(options.rank + 1);
  BatchPlan plan;
  if (options.order == Order::contiguous) {
    const std::int64_t mine = end - first_of(options.rank), rows = std::min(options.batch_size, mine);
    const auto start_of = [&](std::int64_t row) {
      return first_of(options.rank) + mine / rows * row + std::min(row, mine % rows);
    };
    for (std::int64_t k = 0; rows > 0 && k < (mine + rows - 1) / rows; ++k) {
      auto& batch = plan.emplace_back();
      for (std::int64_t row = 0; row < rows && start_of(row) + k < start_of(row + 1); ++row)
        batch.push_back(start_of(row) + k);
    }
    return plan;
  }
  for (std::int64_t begin = first_of(options.rank); begin < end; begin += options.batch_size) {
    auto& batch = plan.emplace_back(static_cast<std::size_t>(std::min(options.batch_size, end - begin)));
    std::iota(batch.begin(), batch.end(), begin);
  }
  return plan;
}

// What the reading thread and the user share, and the thread itself. The thread touches `ready` and `failure`
// under `mutex`; samples, plan and limit are constant.
struct Epoch::State {
  std::shared_ptr<const Samples> samples;
  BatchPlan plan;
  std::int64_t number = 0;
  std::size_t limit = 1;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;

  std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<Batch> ready;
  std::exception_ptr failure;
  std::size_t taken = 0;  // by the user
  std::jthread thread;    // the last member: it ends before the rest is destroyed

  void read(const std::stop_token& stop) {
    try {
      for (const auto& indices : plan) {
        Batch batch = samples->get(indices, number);
        std::unique_lock lock(mutex);
        if (!changed.wait(lock, stop, [this] { return ready.size() < limit; })) return;
        ready.push_back(std::move(batch));
        changed.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
      changed.notify_all();
    }
  }
};

Epoch::Epoch(std::shared_ptr<const Samples> samples, BatchPlan plan, const LoaderOptions& options,
             std::int64_t number)
    : state_(std::make_unique<State>()) {
  check(options);
  state_->samples = std::move(samples);
  state_->plan = std::move(plan);
  state_->number = number;
  state_->limit = static_cast<std::size_t>(options.prefetch);
  state_->device = options.device;
  state_->dtype = options.dtype;
  state_->thread = std::jthread([state = state_.get()](const std::stop_token& stop) { state->read(stop); });
}

Epoch::~Epoch() = default;
Epoch::Epoch(Epoch&&) noexcept = default;

std::optional<Batch> Epoch::next() {
  Batch batch;
  {
    std::unique_lock lock(state_->mutex);
    if (state_->taken == state_->plan.size()) return std::nullopt;
    const auto timeout = wait_timeout();
    const bool in_time =
        state_->changed.wait_for(lock, timeout, [this] { return !state_->ready.empty() || state_->failure; });
    if (!in_time) {
      throw DataError("no batch " + std::to_string(state_->taken) + " from the data loader within " +
                      std::to_string(timeout.count() / 1000) + " s (ACP_TIMEOUT)");
    }
    if (state_->ready.empty()) std::rethrow_exception(state_->failure);
    batch = std::move(state_->ready.front());
    state_->ready.pop_front();
    ++state_->taken;
    state_->changed.notify_all();
  }
  return batch.to(state_->device, state_->dtype);
}

TrainingLoader::TrainingLoader(std::shared_ptr<const Samples> samples, const LoaderOptions& options)
    : samples_(std::move(samples)), options_(options) {
  check(options);
  batches_ = training_batches(samples_->size(), options);
  if (batches_ == 0) {
    const std::int64_t needed = options.size * options.batch_size * options.passes_per_step;
    throw ConfigError("the training data have " + std::to_string(samples_->size()) +
                      " samples, and one step takes " + std::to_string(needed) + " (" +
                      std::to_string(options.size) + " ranks x batch size " +
                      std::to_string(options.batch_size) + " x " + std::to_string(options.passes_per_step) +
                      " passes): use a smaller batch size, shorter sequences or more data");
  }
}

Epoch TrainingLoader::epoch(std::int64_t number, std::int64_t first) const {
  BatchPlan plan = training_plan(samples_->size(), number, options_);
  const auto skipped = std::clamp<std::int64_t>(first, 0, batches_);
  plan.erase(plan.begin(), plan.begin() + skipped);
  return {samples_, std::move(plan), options_, number};
}

Epoch evaluation_batches(std::shared_ptr<const Samples> samples, const LoaderOptions& options) {
  BatchPlan plan = evaluation_plan(samples->size(), options);
  return {std::move(samples), std::move(plan), options};
}

}  // namespace acp::models
