// The loader: who gets which sample, and the thread that reads ahead.
#include "models/loader.h"

#include <torch/torch.h>

#include <atomic>
#include <future>
#include <numeric>

#include "comm/error.h"
#include "tests/catch.h"
#include "tests/support/temp_folder.h"

namespace acp {
namespace {

using namespace models;

LoaderOptions options_for(int rank, int size, std::int64_t batch_size) {
  LoaderOptions options;
  options.rank = rank;
  options.size = size;
  options.batch_size = batch_size;
  return options;
}

// Sample i is the number i. `on_read` runs at each batch, on the loader's thread.
class Numbers final : public Samples {
 public:
  explicit Numbers(
      std::int64_t count, std::function<void()> on_read = [] {})
      : count_(count), on_read_(std::move(on_read)) {}
  std::int64_t size() const override { return count_; }
  Batch get(std::span<const std::int64_t> indices, std::int64_t) const override {
    on_read_();
    const auto n = static_cast<std::int64_t>(indices.size());
    const at::Tensor numbers = torch::tensor(std::vector<std::int64_t>(indices.begin(), indices.end()));
    return {{numbers.to(torch::kFloat).view({n, 1})}, numbers, n};
  }

 private:
  std::int64_t count_;
  std::function<void()> on_read_;
};

std::vector<std::int64_t> targets(const Batch& batch) {
  return {batch.target.const_data_ptr<std::int64_t>(),
          batch.target.const_data_ptr<std::int64_t>() + batch.size};
}

TEST_CASE("permutations depend on seed and epoch alone", "[api][data]") {
  auto order = permutation(1000, 1, 0);
  CHECK(order == permutation(1000, 1, 0));
  CHECK(order != permutation(1000, 1, 1));
  CHECK(order != permutation(1000, 2, 0));
  std::sort(order.begin(), order.end());
  std::vector<std::int64_t> all(1000);
  std::iota(all.begin(), all.end(), 0);
  CHECK(order == all);
  // The same on every machine, so that runs on several kinds can be compared.
  CHECK(permutation(8, 42, 3) == std::vector<std::int64_t>{4, 0, 3, 2, 7, 6, 5, 1});
}

TEST_CASE("all places of a permutation are equally likely", "[api][data]") {
  constexpr int rounds = 6000;
  std::vector<std::vector<int>> counts(6, std::vector<int>(6));
  for (int epoch = 0; epoch < rounds; ++epoch) {
    const auto order = permutation(6, 9, epoch);
    for (std::size_t place = 0; place < 6; ++place) ++counts[place][static_cast<std::size_t>(order[place])];
  }
  for (const auto& row : counts) {
    for (const int count : row) CHECK(count == Approx(rounds / 6).epsilon(0.15));  // 5 standard deviations
  }
}

TEST_CASE("the union of the ranks' batches is the batch of one process", "[api][data]") {
  const auto size = GENERATE(1, 2, 3, 4);
  const std::int64_t batch_size = GENERATE(1, 5, 16);
  const std::int64_t count = 16 * 4 * 7 + 13;
  for (const std::int64_t epoch : {0, 3}) {
    const auto whole = training_plan(count, epoch, options_for(0, 1, batch_size * size));
    std::vector<BatchPlan> parts;
    for (int r = 0; r < size; ++r)
      parts.push_back(training_plan(count, epoch, options_for(r, size, batch_size)));
    for (const auto& part : parts) REQUIRE(part.size() == whole.size());
    CHECK(static_cast<std::int64_t>(whole.size()) == count / (batch_size * size));
    for (std::size_t k = 0; k < whole.size(); ++k) {
      std::vector<std::int64_t> joined;
      for (const auto& part : parts) joined.insert(joined.end(), part[k].begin(), part[k].end());
      CHECK(joined == whole[k]);
    }
  }
}

TEST_CASE("what does not make a whole step is dropped", "[api][data]") {
  LoaderOptions options = options_for(1, 3, 4);
  CHECK(training_plan(47, 0, options).size() == 3);
  CHECK(training_plan(48, 0, options).size() == 4);
  options.passes_per_step = 3;
  CHECK(training_plan(48, 0, options).size() == 3);
  const auto samples = std::make_shared<Numbers>(35);
  CHECK_THROWS_AS(TrainingLoader(samples, options), ConfigError);
  CHECK_THROWS_WITH(TrainingLoader(samples, options), ContainsSubstring("35") && ContainsSubstring("36"));
  options.passes_per_step = 1;
  CHECK(TrainingLoader(samples, options).batches() == 2);
  options.batch_size = 0;
  CHECK_THROWS_AS(TrainingLoader(samples, options), ConfigError);
  CHECK_THROWS_AS(TrainingLoader(samples, options_for(3, 3, 1)), ConfigError);
}

TEST_CASE("evaluation covers each sample exactly once", "[api][data]") {
  const auto size = GENERATE(1, 2, 3, 4, 7);
  const std::int64_t count = GENERATE(0, 1, 5, 6, 100, 101);
  std::vector<std::int64_t> seen;
  std::int64_t fewest = count, most = 0;
  for (int r = 0; r < size; ++r) {
    std::int64_t mine = 0;
    for (const auto& batch : evaluation_plan(count, options_for(r, size, 8))) {
      CHECK_FALSE(batch.empty());
      CHECK(batch.size() <= 8);
      mine += static_cast<std::int64_t>(batch.size());
      seen.insert(seen.end(), batch.begin(), batch.end());
    }
    fewest = std::min(fewest, mine);
    most = std::max(most, mine);
  }
  std::vector<std::int64_t> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  CHECK(seen == all);
  CHECK(most - fewest <= 1);
}

TEST_CASE("epochs give their plan's batches in order, also from the middle", "[api][data]") {
  LoaderOptions options = options_for(1, 2, 5);
  options.dtype = torch::kDouble;
  options.prefetch = 2;
  const TrainingLoader loader(std::make_shared<Numbers>(103), options);
  REQUIRE(loader.batches() == 10);
  const auto plan = training_plan(103, 4, options);
  for (const std::int64_t first : {0, 7, 10}) {
    auto expected = plan.begin() + first;
    for (const Batch& batch : loader.epoch(4, first)) {
      CHECK(targets(batch) == *expected++);
      CHECK(batch.inputs.at(0).scalar_type() == torch::kDouble);
    }
    CHECK(expected == plan.end());
  }
  Epoch epoch = loader.epoch(0, 9);
  CHECK(epoch.next());
  CHECK_FALSE(epoch.next());
  CHECK_FALSE(epoch.next());
}

TEST_CASE("the reading thread stays within its limit and ends when the epoch is left", "[api][data]") {
  std::atomic<int> reads = 0;
  std::promise<void> full;
  const auto samples = std::make_shared<Numbers>(1000, [&] {
    if (++reads == 4) full.set_value();
  });
  {
    LoaderOptions options = options_for(0, 1, 10);
    options.prefetch = 3;
    Epoch epoch = TrainingLoader(samples, options).epoch(0);
    // The fourth batch is read, and then waits for a place.
    REQUIRE(full.get_future().wait_for(std::chrono::seconds(60)) == std::future_status::ready);
    CHECK(reads == 4);
    CHECK(epoch.next());
    Epoch moved = std::move(epoch);
    CHECK(moved.next());
  }
  const int at_end = reads;
  CHECK(at_end <= 6);
  CHECK(samples.use_count() == 1);  // the thread is gone, and its share of the samples with it
}

TEST_CASE("an exception of the reading thread arrives in its place", "[api][data]") {
  int reads = 0;
  const auto samples = std::make_shared<Numbers>(100, [&] {
    if (++reads == 3) throw DataError("sector 17");
  });
  Epoch epoch = evaluation_batches(samples, options_for(0, 1, 10));
  CHECK(epoch.next());
  CHECK(epoch.next());
  CHECK_THROWS_WITH(epoch.next(), "sector 17");
  CHECK_THROWS_AS(epoch.next(), DataError);
}

TEST_CASE("contiguous plans give each row a stretch of its own", "[api][data]") {
  // 26 samples, 2 ranks x 3 rows: stretches of 4, two samples left over.
  auto options = options_for(1, 2, 3);
  options.order = Order::contiguous;
  const auto plan = training_plan(26, 5, options);
  CHECK(plan == BatchPlan{{12, 16, 20}, {13, 17, 21}, {14, 18, 22}, {15, 19, 23}});
  CHECK(plan == training_plan(26, 6, options));

  // 13 samples of this rank: rows of 5, 4 and 4; the longer ones first, so that the last batch has the first
  // row alone.
  CHECK(evaluation_plan(26, options) ==
        BatchPlan{{13, 18, 22}, {14, 19, 23}, {15, 20, 24}, {16, 21, 25}, {17}});
  options.batch_size = 20;
  CHECK(evaluation_plan(26, options).size() == 1);
  options.rank = 0;
  options.size = 1;
  CHECK(evaluation_plan(0, options).empty());
}

TEST_CASE("a batch that does not come is an error, not a hang", "[api][data]") {
  const Environment timeout("ACP_TIMEOUT", "0.2");
  std::promise<void> release;
  const auto samples =
      std::make_shared<Numbers>(100, [&, wait = release.get_future().share()] { wait.wait(); });
  Epoch epoch = evaluation_batches(samples, options_for(0, 1, 10));
  CHECK_THROWS_WITH(epoch.next(), ContainsSubstring("no batch 0"));
  release.set_value();
}

}  // namespace
}  // namespace acp
