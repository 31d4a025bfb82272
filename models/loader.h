// Batches of a data set for one rank: shuffled, sharded, prefetched.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "models/data_set.h"

namespace acp::models {

struct LoaderOptions {
  int rank = 0, size = 1;
  std::int64_t batch_size = 1;  // per rank
  // Training: batches() is rounded down to a multiple of this, so that no step of several passes is left
  // incomplete.
  std::int64_t passes_per_step = 1;
  std::uint64_t seed = 42;  // of the order; the same on all ranks
  Order order = Order::shuffled;
  std::int64_t prefetch = 4;  // batches that wait, at most
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // of floating-point tensors
};

// Which samples a rank takes in which batch. Pure arithmetic, so it can be tested without data.
using BatchPlan = std::vector<std::vector<std::int64_t>>;

// A permutation of 0..count-1 that depends on seed and epoch alone: the same on every rank and machine.
std::vector<std::int64_t> permutation(std::int64_t count, std::uint64_t seed, std::int64_t epoch);

// Batch k of all ranks together is piece k of the epoch's permutation, cut into pieces of size * batch_size,
// and rank r has its r-th part: the union over ranks is batch k of one process with batches of size *
// batch_size. The last incomplete piece (with passes_per_step p: the last fewer than p pieces) is dropped, so
// that all ranks make the same number of steps.
// Contiguous: the samples are cut into size * batch_size stretches of equal length; row b of rank r's batches
// walks through stretch r * batch_size + b. What is left over is dropped, and each epoch is the same.
BatchPlan training_plan(std::int64_t count, std::int64_t epoch, const LoaderOptions& options);

// In order, each sample on exactly one rank; the last batch of a rank may be smaller, and ranks may differ by
// one sample, so in the number of batches too.
// Contiguous: each rank's part is cut into batch_size stretches, one a row, the longer ones first.
BatchPlan evaluation_plan(std::int64_t count, const LoaderOptions& options);

// The batches of one pass over the data. Owns one thread, which reads ahead and ends with the object; used by
// one thread. In a range-based for the batches come in order:
//   for (const Batch& batch : loader.epoch(0)) ...
class Epoch {
 public:
  // `number`: the epoch that samples are asked for.
  Epoch(std::shared_ptr<const Samples> samples, BatchPlan plan, const LoaderOptions& options,
        std::int64_t number = 0);
  ~Epoch();
  Epoch(Epoch&&) noexcept;
  Epoch& operator=(Epoch&&) = delete;

  // The next batch, or nothing after the last. Rethrows what reading threw, at the place of the batch that
  // failed; DataError when no batch comes within wait_timeout().
  std::optional<Batch> next();

  class Iterator;
  struct End {};
  Iterator begin();
  End end() const { return {}; }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Epoch::Iterator {
 public:
  explicit Iterator(Epoch& epoch) : epoch_(&epoch), batch_(epoch.next()) {}
  const Batch& operator*() const { return *batch_; }
  Iterator& operator++() { return batch_ = epoch_->next(), *this; }
  bool operator==(End) const { return !batch_; }

 private:
  Epoch* epoch_;
  std::optional<Batch> batch_;
};

inline Epoch::Iterator Epoch::begin() {
  return Iterator(*this);
}

// Training batches. ConfigError when the samples do not make one step: the message has the numbers.
class TrainingLoader {
 public:
  TrainingLoader(std::shared_ptr<const Samples> samples, const LoaderOptions& options);

  // Per epoch; the same on all ranks.
  std::int64_t batches() const { return batches_; }
  // Epoch `number`, from its batch `first` on (for a resumed run).
  Epoch epoch(std::int64_t number, std::int64_t first = 0) const;

 private:
  std::shared_ptr<const Samples> samples_;
  LoaderOptions options_;
  std::int64_t batches_;
};

// This rank's part of all samples, each on one rank, in order. Ranks may get different numbers of batches,
// even none: nothing collective belongs inside the loop.
Epoch evaluation_batches(std::shared_ptr<const Samples> samples, const LoaderOptions& options);

}  // namespace acp::models
