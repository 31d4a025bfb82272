// The cost of messages: given or measured, one for all ranks, and the choice that follows from it.
#include "comm/link_cost.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <stdexcept>
#include <thread>

#include "comm/error.h"
#include "tests/catch.h"
#include "tests/support/ranks.h"

using namespace acp;

namespace {

// Every rank's figures, as rank 0 has them, must be those of this rank.
void require_same(Communicator& c, const LinkCost& cost) {
  const at::Tensor mine =
      at::tensor(std::vector<double>{cost.latency, cost.seconds_per_byte}, at::kDouble).contiguous();
  const at::Tensor all = at::zeros({2 * c.size()}, at::kDouble);
  perform(c, Collective::all_gather(mine, all));
  for (int r = 0; r < c.size(); ++r) {
    if (!at::equal(all.narrow(0, 2 * r, 2), mine)) {
      throw std::runtime_error("rank " + std::to_string(r) + " has other figures than rank " +
                               std::to_string(c.rank()));
    }
  }
}

}  // namespace

TEST_CASE("link costs are read from text", "[unit][link]") {
  const LinkCost cost = parse_link_cost("latency_us=30,gbps=0.8");
  CHECK(std::abs(cost.latency - 30e-6) < 1e-12);
  CHECK(std::abs(cost.seconds_per_byte - 1e-8) < 1e-14);
  CHECK(parse_link_cost("gbps=0.8,latency_us=30") == cost);
  CHECK(parse_link_cost("latency_us=0,gbps=1").latency == 0);
  for (const char* wrong : {"", "latency_us=30", "gbps=1", "latency_us=30,gbps=0", "latency_us=-1,gbps=1",
                            "latency_us=30us,gbps=1", "latency=30,gbps=1", "latency_us,gbps=1", "30,1"}) {
    INFO(wrong);
    CHECK_THROWS_AS(parse_link_cost(wrong), ConfigError);
  }
}

TEST_CASE("the limit of recursive doubling follows the costs", "[unit][link]") {
  const auto limit = [](double latency_us, double gbps, int ranks) {
    return doubling_limit({latency_us * 1e-6, 8e-9 / gbps}, ranks);
  };
  CHECK(limit(50, 1, 1) == 0);
  // 4 ranks: 2 steps of B against 6 of B / 4, so four latencies pay for half of B on the wire.
  CHECK(limit(50, 1, 4) == 46340);  // 47.8 kB, down to a power of the root of two
  CHECK(limit(100, 1, 4) > limit(50, 1, 4));
  CHECK(limit(50, 0.1, 4) < limit(50, 1, 4) / 5);
  CHECK(limit(0, 1, 4) == 0);
  CHECK(limit(1e6, 1, 4) == 1024 * 1024);    // whatever the latency
  CHECK(limit(50, 1, 2) > limit(50, 1, 4));  // two ranks send the same bytes either way
  CHECK(limit(50, 1, 3) < limit(50, 1, 4));  // no power of two: two steps more
  CHECK(limit(50, 1, 8) > 0);
}

TEST_CASE("all ranks take the figures that rank 0 was given", "[ranks][link]") {
  on_ranks(3, [](Communicator& c) {
    const LinkCost mine{1e-5 * (c.rank() + 1), 1e-9 * (c.rank() + 1)};
    const auto agreed = agree_link_cost(c, c.rank() == 1 ? std::nullopt : std::optional(mine));
    if (!(agreed == LinkCost{1e-5, 1e-9})) throw std::runtime_error("not rank 0's figures");
  });
}

TEST_CASE("what ranks measure is the same on all of them, however slow one is", "[ranks][link]") {
  const int ranks = GENERATE(1, 2, 3, 4);
  on_ranks(ranks, [](Communicator& c) {
    if (c.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    // Given on another rank than 0 does not count.
    const auto cost = agree_link_cost(c, c.rank() == 1 ? std::optional(LinkCost{1000, 1000}) : std::nullopt);
    if (!(cost.latency > 0) || !(cost.seconds_per_byte > 0) || cost.latency > 100) {
      throw std::runtime_error("these are no costs");
    }
    require_same(c, cost);
  });
}

TEST_CASE("ranks that are tuned choose alike on both sides of the limit", "[ranks][link]") {
  const int ranks = GENERATE(2, 3, 4);
  on_ranks(ranks, Tuning{}, [](WireCommunicator& c) {
    Tuning tuning;
    tuning.small_bytes = doubling_limit({20e-6, 1e-8}, c.size());
    c.tune(tuning);
    const auto limit = static_cast<std::int64_t>(tuning.small_bytes / sizeof(float));
    for (const auto numel : {limit - 1, limit, limit + 1, 4 * limit}) {
      const auto x = at::full({numel}, c.rank() + 1);
      const auto before = c.traffic().bytes_sent;
      const auto sum = x.to(at::kFloat);
      perform(c, Collective::all_reduce(sum));
      if (!at::all(sum == c.size() * (c.size() + 1) / 2).item<bool>()) throw std::runtime_error("wrong sum");
      // Of doubling among a power of two, every rank sends whole tensors.
      const auto whole = static_cast<std::uint64_t>(numel) * sizeof(float);
      const auto sent = c.traffic().bytes_sent - before;
      if (c.size() == 4 && (sent == 2 * whole) != (numel <= limit)) {
        throw std::runtime_error("not the algorithm of this size");
      }
    }
  });
}

TEST_CASE("what is performed by the caller comes after what was started", "[ranks][collectives]") {
  on_ranks(3, [](Communicator& c) {
    for (int turn = 0; turn < 20; ++turn) {
      const auto x = at::ones({1000});
      auto first = c.start(Collective::all_reduce(x)), second = c.start(Collective::all_reduce(x));
      perform(c, Collective::all_reduce(x));
      const bool done = first.wait_for(std::chrono::seconds(0)) == std::future_status::ready &&
                        second.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
      if (!done) throw std::runtime_error("it overtook");
      if (!at::all(x == 27).item<bool>()) throw std::runtime_error("wrong sum");
    }
  });
}
