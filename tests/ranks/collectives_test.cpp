// Every collective over ranks as threads, and what happens when ranks fail, differ or never come.
#include <ATen/ATen.h>

#include <atomic>
#include <cstdlib>

#include "comm/algorithms/algorithms.h"
#include "comm/error.h"
#include "tests/catch.h"
#include "tests/support/collective_suite.h"
#include "tests/support/ranks.h"

using namespace acp;
using namespace acp::test;

namespace {

class ShortTimeout {
 public:
  ShortTimeout() { setenv("ACP_TIMEOUT", "0.3", 1); }
  ~ShortTimeout() { unsetenv("ACP_TIMEOUT"); }
};

}  // namespace

TEST_CASE("every collective, type, reduction and size", "[ranks][collectives]") {
  const int ranks = GENERATE(1, 2, 3, 4, 5, 8);
  on_ranks(ranks, run_collective_suite);
}

TEST_CASE("every collective in short segments", "[ranks][collectives]") {
  set_segment_bytes(24);
  on_ranks(GENERATE(2, 3, 4), run_short_suite);
  set_segment_bytes(512 * 1024);
}

TEST_CASE("channels are independent of each other", "[ranks][collectives]") {
  on_ranks(GENERATE(2, 3, 4), run_channel_suite);
}

TEST_CASE("a rank that never comes is named at the deadline", "[ranks][faults]") {
  const ShortTimeout timeout;
  std::string message;
  int peer = -1;
  on_ranks(3, [&](Communicator& c) {
    if (c.rank() == 1) return;
    try {
      Collective op = Collective::all_reduce(at::zeros({1000}));
      op.label = "step 7, bucket 2: fc.weight";
      perform(c, std::move(op));
    } catch (const PeerError& e) {
      if (c.rank() == 2) message = e.what();
      if (c.rank() == 2) peer = e.peer();
    } catch (const CommunicationError&) {
    }
  });
  CHECK(peer == 1);
  CHECK_THAT(message, ContainsSubstring("[local] rank 2: rank 1 did not take part within 0.3"));
  CHECK_THAT(message, ContainsSubstring("all_reduce of 3.91 KiB"));
  CHECK_THAT(message, ContainsSubstring("(step 7, bucket 2: fc.weight)"));
}

TEST_CASE("an abort reaches those who wait and those who come later", "[ranks][faults]") {
  std::atomic<int> told = 0;
  on_ranks(3, [&](Communicator& c) {
    if (c.rank() == 0) c.abort(std::make_exception_ptr(DataError("the disk of rank 0 is full")));
    for (int again = 0; again < 2; ++again) {
      try {
        perform(c, Collective::all_reduce(at::zeros({10})));
      } catch (const DataError& e) {
        told += std::string(e.what()) == "the disk of rank 0 is full";
      }
    }
  });
  CHECK(told == 6);
}

TEST_CASE("ranks that do different things are told so", "[ranks][faults]") {
  std::atomic<int> told = 0;
  on_ranks(2, [&](Communicator& c) {
    try {
      if (c.rank() == 0) {
        perform(c, Collective::all_reduce(at::zeros({10})));
      } else {
        perform(c, Collective::all_reduce(at::zeros({10}), ReduceOp::max));
      }
    } catch (const CommunicationError& e) {
      told += std::string(e.what()).find("ranks do different things") != std::string::npos;
    }
  });
  CHECK(told == 2);
}

TEST_CASE("a communicator destroyed with work under way does not hang", "[ranks][faults]") {
  std::vector<std::future<void>> pending;
  on_ranks(2, [&](Communicator& c) {
    if (c.rank() != 0) return;
    for (int i = 0; i < 3; ++i) pending.push_back(c.start(Collective::all_reduce(at::zeros({5}))));
  });
  for (auto& future : pending) CHECK_THROWS_AS(future.get(), CommunicationError);
}

TEST_CASE("one rank alone sees what is wrong with its arguments", "[unit][collectives]") {
  CHECK_THROWS_AS(Collective::all_reduce(at::Tensor()), ConfigError);
  CHECK_THROWS_AS(Collective::all_reduce(at::zeros({3, 4}).t()), ConfigError);
  CHECK_THROWS_AS(Collective::all_reduce(at::zeros({3}, at::kInt), ReduceOp::average), ConfigError);
  CHECK_THROWS_AS(Collective::all_gather(at::zeros({3}), at::zeros({6}, at::kInt)), ConfigError);
  CHECK_THROWS_AS(Collective::all_gather_v(at::zeros({3}), at::zeros({6}), {3, 2}), ConfigError);
  CHECK_THROWS_AS(Collective::all_to_all(at::zeros({4}), at::zeros({6})), ConfigError);
  CHECK(describe(Collective::all_reduce(at::zeros({1 << 20}))) == "all_reduce of 4 MiB Float");
}

TEST_CASE("the average of half-precision numbers does not overflow", "[ranks][collectives]") {
  on_ranks(4, [](Communicator& c) {
    at::Tensor x = at::full({7}, 60000, at::kHalf);
    perform(c, Collective::all_reduce(x, ReduceOp::average));
    if (!at::equal(x, at::full({7}, 60000, at::kHalf))) throw std::runtime_error("overflow");
  });
}
