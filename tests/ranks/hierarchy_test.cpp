// Two levels: ranks that share hosts in every way, all types, short blocks, and a rank that stops.
#include <ATen/ATen.h>

#include <latch>
#include <limits>
#include <map>
#include <mutex>
#include <stdexcept>

#include "comm/algorithms/hosts.h"
#include "comm/error.h"
#include "tests/catch.h"
#include "tests/support/collective_suite.h"
#include "tests/support/ranks.h"
#include "tests/support/timeout.h"

using namespace acp;
using namespace acp::test;

namespace {

Tuning on_hosts(std::vector<int> hosts, std::size_t segment) {
  Tuning tuning;
  tuning.segment_bytes = segment;
  tuning.small_bytes = 0;
  tuning.hierarchy_bytes = 0;
  tuning.host_of = std::move(hosts);
  return tuning;
}

}  // namespace

TEST_CASE("ranks are grouped by host", "[unit][hierarchy]") {
  const std::vector<int> names{7, 3, 7, 3, 3};
  const Hosts hosts = group_hosts(names, 3, 5);
  CHECK(hosts.ranks == std::vector<std::vector<int>>{{0, 2}, {1, 3, 4}});
  CHECK(hosts.host == 1);
  CHECK(hosts.place == 1);
  CHECK(hosts.columns == 2);
  CHECK(hosts.shared());
  const Hosts apart = group_hosts({}, 2, 3);
  CHECK(apart.count() == 3);
  CHECK(apart.host == 2);
  CHECK_FALSE(apart.shared());
  const std::vector<std::string> texts{"b", "a", "b"};
  CHECK(number_hosts(texts) == std::vector<int>{0, 1, 0});
}

TEST_CASE("hierarchical: every type and size, whatever shares a host", "[ranks][hierarchy]") {
  const auto hosts =
      GENERATE(std::vector<int>{}, std::vector<int>{0, 0}, std::vector<int>{0, 0, 1, 1},
               std::vector<int>{0, 1, 0, 1}, std::vector<int>{0, 0, 0}, std::vector<int>{0, 0, 0, 1},
               std::vector<int>{2, 1, 1, 0, 1, 2}, std::vector<int>{0, 1, 2, 0, 1, 2, 0, 1});
  const std::size_t segment = GENERATE(1U, 24U, 512U * 1024U);
  const int ranks = hosts.empty() ? 3 : static_cast<int>(hosts.size());
  on_ranks(ranks, on_hosts(hosts, segment), [](Communicator& c) {
    check_all(c, Algorithm::automatic, {0, 1, 3, 17, 250});
    for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
      check_bits(c, Algorithm::hierarchical, type, 501);
    }
  });
}

TEST_CASE("hierarchical: bytes sent are those of the algorithms' page", "[ranks][hierarchy]") {
  const auto type = GENERATE(at::kFloat, at::kHalf);
  on_ranks(4, on_hosts({0, 0, 1, 1}, 1024), [&](Communicator& c) {
    const auto before = c.traffic().bytes_sent;
    const at::Tensor x = at::ones({4800}, type);
    perform(c, Collective::all_reduce(x));
    const std::size_t bytes = x.nbytes(), shard = bytes / 2;
    // On the host a shard each way, across half a shard each way; of half precision one way as float32.
    const std::size_t expected = 2 * shard + shard / 2 + (type == at::kHalf ? shard : shard / 2);
    if (c.traffic().bytes_sent - before != expected) {
      throw std::runtime_error(std::to_string(c.traffic().bytes_sent - before) + " bytes, not " +
                               std::to_string(expected));
    }
  });
}

TEST_CASE("hierarchical: half precision does not overflow and rounds once", "[ranks][hierarchy]") {
  on_ranks(4, on_hosts({0, 0, 1, 1}, 1024), [](Communicator& c) {
    const at::Tensor large = at::full({7}, 60000, at::kHalf);
    perform(c, Collective::all_reduce(large, ReduceOp::average));
    if (!at::equal(large, at::full({7}, 60000, at::kHalf))) throw std::runtime_error("the sum overflowed");
    const at::Tensor small = at::full({7}, c.rank() == 0 ? 2048 : 1, at::kHalf);
    perform(c, Collective::all_reduce(small));
    if (!at::equal(small, at::full({7}, 2052, at::kHalf))) throw std::runtime_error("rounded more than once");
  });
}

TEST_CASE("hierarchical: a NaN and signed zeros give the same bits on all ranks", "[ranks][hierarchy]") {
  const ReduceOp op = GENERATE(ReduceOp::sum, ReduceOp::min, ReduceOp::max);
  on_ranks(4, on_hosts({0, 1, 0, 1}, 8), [&](Communicator& c) {
    const at::Tensor x = at::tensor({0.0F, -0.0F, 1.0F, 2.0F, -0.0F, 0.0F, 5.0F});
    if (c.rank() == 1) {
      x[2] = std::numeric_limits<float>::quiet_NaN();
      x[0] = -0.0F;
    }
    perform(c, Collective::all_reduce(x, op));
    const at::Tensor all = at::empty({4, 7}, at::kInt);
    perform(c, Collective::all_gather(x.view(at::kInt), all));
    for (int r = 1; r < 4; ++r) {
      if (!at::equal(all[0], all[r])) throw std::runtime_error("bits differ");
    }
    if (!x[2].isnan().item<bool>()) throw std::runtime_error("the NaN was lost");
  });
}

TEST_CASE("halving on any number of ranks", "[ranks][collectives]") {
  const int ranks = GENERATE(2, 3, 4, 5, 6, 7, 8, 9);
  Tuning tuning;
  tuning.small_bytes = 0;
  tuning.halving_bytes = 1 << 20;
  on_ranks(ranks, tuning, [](Communicator& c) {
    check_all(c, Algorithm::automatic, {0, 1, 5, 333});
    for (const at::ScalarType type : {at::kFloat, at::kDouble}) check_bits(c, Algorithm::halving, type, 501);
  });
}

TEST_CASE("hierarchical: a rank that never comes is named by all at the deadline",
          "[ranks][hierarchy][faults]") {
  const test::Timeout timeout("0.3");
  const int absent = GENERATE(0, 1, 2, 3);
  std::mutex mutex;
  std::map<int, std::string> told;
  std::latch done(3);
  on_ranks(4, on_hosts({0, 0, 1, 1}, 1 << 16), [&](WireCommunicator& c) {
    if (c.rank() == absent) {
      done.wait();  // alive, but elsewhere
      return;
    }
    std::string text = "nothing";
    try {
      perform(c, Collective::all_reduce(at::zeros({1 << 18})));
    } catch (const PeerError& e) {
      text = e.what();
    }
    {
      const std::lock_guard lock(mutex);
      told[c.rank()] = text;
    }
    done.count_down();
  });
  for (const auto& [rank, text] : told) {
    INFO(text);
    CHECK_THAT(text, ContainsSubstring("nothing for 0.3 s (ACP_TIMEOUT)"));
    const std::string name = std::to_string(absent);
    const bool named = text.find("peer " + name) != std::string::npos ||
                       text.find("rank " + name + " ") != std::string::npos;
    CHECK(named);
  }
}

TEST_CASE("hierarchical: ranks with unlike shapes get an error, no wrong sum", "[ranks][hierarchy][faults]") {
  const test::Timeout timeout("5");
  CHECK_THROWS_AS(on_ranks(4, on_hosts({0, 0, 1, 1}, 1024),
                           [](WireCommunicator& c) {
                             perform(c, Collective::all_reduce(at::zeros({c.rank() == 2 ? 1000 : 1001})));
                           }),
                  CommunicationError);
}
