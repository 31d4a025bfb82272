// Staging over ranks as threads, with copies that are late: no device is needed.
#include "comm/staged/staged.h"

#include <ATen/ATen.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "comm/error.h"
#include "comm/local/local.h"
#include "tests/catch.h"
#include "tests/support/collective_suite.h"
#include "tests/support/ranks.h"
#include "tests/support/slow_copies.h"
#include "tests/support/timeout.h"

using namespace acp;
using namespace acp::test;

namespace {

void on_staged_ranks(
    int n, std::size_t chunk, const std::function<void(Communicator&)>& body,
    SlowCopies::Predicate elsewhere = [](const at::Tensor&) { return true; }) {
  on_ranks(n, [&](Communicator& c) {
    const auto staged = stage(c.channel(), std::make_shared<SlowCopies>(elsewhere), {chunk});
    body(*staged);
  });
}

// A host whose operations end when the test says so.
class GatedHost final : public Communicator {
 public:
  explicit GatedHost(std::function<void(int)> gate) : gate_(std::move(gate)) {}
  int rank() const override { return 0; }
  int size() const override { return 2; }
  std::future<void> start(Collective) override {
    return std::async(std::launch::async, [this, index = started_++] { gate_(index); });
  }
  std::unique_ptr<Communicator> channel() override { throw Error("not in this test"); }
  void abort(std::exception_ptr) noexcept override {}
  std::string_view backend() const override { return "local"; }
  Traffic traffic() const override { return {}; }

 private:
  std::function<void(int)> gate_;
  int started_ = 0;
};

// Copies at once, and counts them.
class CountedCopies final : public DeviceCopies {
 public:
  std::shared_ptr<DeviceCopies> another() const override { return std::make_shared<CountedCopies>(); }
  bool elsewhere(const at::Tensor& x) const override { return x.defined(); }
  MarkPtr mark(const at::Tensor&) const override { return nullptr; }
  at::Tensor host_bytes(std::int64_t bytes) override { return at::empty({bytes}, at::kByte); }
  MarkPtr down(std::span<const Copy> copies, const MarkPtr&) override { return count(copies, downs_); }
  MarkPtr up(std::span<const Copy> copies, const MarkPtr&) override { return count(copies, ups_); }

  // Whether so many rounds are copied in time.
  bool reach(int downs, int ups) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return downs_ >= downs && ups_ >= ups; });
  }

 private:
  MarkPtr count(std::span<const Copy> copies, int& counter) {
    for (const auto& [to, from] : copies) to.copy_(from);
    const std::lock_guard lock(mutex_);
    ++counter;
    changed_.notify_all();
    return nullptr;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  int downs_ = 0, ups_ = 0;
};

// A device that never comes to the end of its work.
class StuckCopies final : public DeviceCopies {
 public:
  std::shared_ptr<DeviceCopies> another() const override { return std::make_shared<StuckCopies>(); }
  bool elsewhere(const at::Tensor& x) const override { return x.defined(); }
  MarkPtr mark(const at::Tensor&) const override { return nullptr; }
  at::Tensor host_bytes(std::int64_t bytes) override { return at::zeros({bytes}, at::kByte); }
  MarkPtr down(std::span<const Copy>, const MarkPtr&) override { return std::make_shared<Flag>(); }
  MarkPtr up(std::span<const Copy>, const MarkPtr&) override { return nullptr; }
};

// The device is busy with what came before until somebody says otherwise.
class BusyCopies final : public SlowCopies {
 public:
  explicit BusyCopies(std::shared_ptr<Flag> before) : before_(std::move(before)) {}
  MarkPtr mark(const at::Tensor&) const override { return before_; }

 private:
  std::shared_ptr<Flag> before_;
};

// Fails once, with the second round on its way.
class BrokenCopies final : public SlowCopies {
 public:
  MarkPtr down(std::span<const Copy> copies, const MarkPtr& after) override {
    if (++downs_ == 2) throw CommunicationError("out of pinned memory");
    return SlowCopies::down(copies, after);
  }

 private:
  int downs_ = 0;
};

}  // namespace

TEST_CASE("every collective, staged in rounds of any size", "[ranks][staged]") {
  const int ranks = GENERATE(from_range(world_sizes({1, 2, 3, 4}, 3)));
  on_staged_ranks(ranks, 1 << 20, run_collective_suite);
}

TEST_CASE("every collective, staged in many short rounds", "[ranks][staged]") {
  const int ranks = GENERATE(2, 3);
  const std::size_t chunk = GENERATE(1U, 100U, 4096U);
  on_staged_ranks(ranks, chunk, [](Communicator& c) {
    check_all(c, Algorithm::automatic, {0, 1, 5, 33});
    for (const at::ScalarType type : {at::kFloat, at::kHalf}) check_bits(c, Algorithm::automatic, type, 101);
    run_random_suite(c, 7, 20);
  });
}

TEST_CASE("every collective over a backend that reaches the device", "[ranks][staged]") {
  const int ranks = GENERATE(from_range(world_sizes({1, 2, 3, 4}, 3)));
  const bool all = GENERATE(true, false);  // of the tensors are on the device, or some
  on_ranks(ranks, [&](Communicator& c) {
    Staging staging;
    staging.direct = true;
    const auto copies =
        std::make_shared<SlowCopies>([&](const at::Tensor& x) { return all || x.is_floating_point(); });
    run_collective_suite(*stage(c.channel(), copies, staging));
  });
}

TEST_CASE("tensors of the host and of the device keep the order of their starts", "[ranks][staged]") {
  const auto floats = [](const at::Tensor& x) { return x.is_floating_point(); };
  on_staged_ranks(
      3, 64,
      [](Communicator& c) {
        run_random_suite(c, 11, 80);
        run_channel_suite(c);
      },
      floats);
}

TEST_CASE("the next round is copied down, and the last one up, while one is on the wire", "[ranks][staged]") {
  const auto copies = std::make_shared<CountedCopies>();
  bool overlapped = true;
  // Round k ends only once round k + 2 is on the host and round k - 1 back: else this waits in vain.
  const auto gate = [&](int k) {
    if (!copies->reach(std::min(k + 3, 6), k)) overlapped = false;
  };
  const auto staged = stage(std::make_unique<GatedHost>(gate), copies, {40});
  const at::Tensor x = at::arange(60, at::kFloat), before = x.clone();
  staged->perform(Collective::all_reduce(x));
  CHECK(overlapped);
  CHECK(at::equal(x, before));
  CHECK(copies->reach(6, 6));
}

TEST_CASE("a staged operation that is wrong fails alone", "[ranks][staged]") {
  on_staged_ranks(2, 16, [](Communicator& c) {
    auto wrong = c.start(Collective::all_gather(at::zeros({4}), at::zeros({12})));
    const at::Tensor x = at::ones({50});
    perform(c, Collective::all_reduce(x));
    if (!at::equal(x, at::full({50}, 2.0))) throw std::runtime_error("a later operation is wrong");
    try {
      wrong.get();
    } catch (const ConfigError&) {
      return;
    }
    throw std::runtime_error("no ConfigError");
  });
}

TEST_CASE("a failure on one rank ends staged operations on the others", "[ranks][staged]") {
  CHECK_THROWS_WITH(on_staged_ranks(3, 64,
                                    [](Communicator& c) {
                                      perform(c, Collective::all_reduce(at::ones({1000})));
                                      if (c.rank() == 1) throw DataError("no more data on rank 1");
                                      perform(c, Collective::all_reduce(at::ones({1000})));
                                    }),
                    ContainsSubstring("no more data on rank 1"));
}

TEST_CASE("a device that does not get there is an error at the deadline", "[ranks][staged]") {
  const Timeout timeout("0.2");
  auto transports = local::transports(2);
  const auto staged =
      stage(std::make_unique<WireCommunicator>(std::move(transports[0])), std::make_shared<StuckCopies>());
  auto done = staged->start(Collective::all_reduce(at::ones({10})));
  CHECK_THROWS_WITH(done.get(), ContainsSubstring("[local] rank 0") && ContainsSubstring("ACP_TIMEOUT") &&
                                    ContainsSubstring("all_reduce of"));
}

TEST_CASE("what the device was asked to do before comes before a result", "[ranks][staged]") {
  on_ranks(2, [](Communicator& c) {
    const auto before = std::make_shared<Flag>();
    const auto staged = stage(c.channel(), std::make_shared<BusyCopies>(before), {16});
    const at::Tensor x = at::full({20}, c.rank() == 0 ? 5.0 : 1.0);
    if (c.rank() == 0) before->set();
    auto done = staged->start(Collective::broadcast(x, 0));
    if (c.rank() == 1) {  // its device still works at x, which has nothing to send
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      x.fill_(2);
      before->set();
    }
    done.get();
    if (!at::equal(x, at::full({20}, 5.0))) throw std::runtime_error("work from before overwrote the result");
  });
}

TEST_CASE("a round that fails on one rank fails the channel on all", "[ranks][staged]") {
  std::atomic<int> told = 0;
  const auto body = [&](Communicator& c) {
    std::shared_ptr<DeviceCopies> copies = std::make_shared<SlowCopies>();
    if (c.rank() == 1) copies = std::make_shared<BrokenCopies>();
    const auto staged = stage(c.channel(), copies, {16});
    for (int i = 0; i < 2; ++i) {
      try {
        staged->perform(Collective::all_reduce(at::ones({20})));
      } catch (const Error& error) {
        if (std::string(error.what()).find("out of pinned memory") != std::string::npos) ++told;
      }
    }
  };
  try {
    on_ranks(2, body);
  } catch (const Error&) {  // closing a channel that has failed
  }
  CHECK(told == 4);
}

TEST_CASE("staging ends with operations under way whose peers never come", "[ranks][staged]") {
  std::future<void> done;
  {
    auto transports = local::transports(2);
    const auto staged =
        stage(std::make_unique<WireCommunicator>(std::move(transports[0])), std::make_shared<SlowCopies>());
    done = staged->start(Collective::all_reduce(at::ones({10})));
  }
  CHECK_THROWS_WITH(done.get(), ContainsSubstring("destroyed with operations under way"));
}
