// The cost of messages: given or measured, one for all ranks, and the choice that follows from it.
#include "comm/link_cost.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "comm/algorithms/choice.h"
#include "comm/error.h"
#include "tests/catch.h"
#include "tests/support/ranks.h"

using namespace acp;

namespace {

// Every rank's figures, as rank 0 has them, must be those of this rank.
void require_same(Communicator& c, const LinkCost& cost) {
  const std::vector<double> figures{cost.latency, cost.seconds_per_byte, cost.hidden,
                                    cost.local_seconds_per_byte, cost.cross_seconds_per_byte};
  const at::Tensor mine = at::tensor(figures, at::kDouble).contiguous();
  const std::int64_t count = mine.numel();
  const at::Tensor all = at::zeros({count * c.size()}, at::kDouble);
  perform(c, Collective::all_gather(mine, all));
  for (int r = 0; r < c.size(); ++r) {
    if (!at::equal(all.narrow(0, count * r, count), mine)) {
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
  CHECK(std::abs(parse_link_cost("gbps=1,latency_us=0,local_gbps=8").local_seconds_per_byte - 1e-9) < 1e-15);
  for (const char* wrong :
       {"", "latency_us=30", "latency_us=30,gbps=1,local_gbps=0", "gbps=1", "latency_us=30,gbps=0",
        "latency_us=-1,gbps=1", "latency_us=30us,gbps=1", "latency=30,gbps=1", "latency_us,gbps=1", "30,1"}) {
    INFO(wrong);
    CHECK_THROWS_AS(parse_link_cost(wrong), ConfigError);
  }
}

TEST_CASE("a step costs its latency and its time on the wire, or the longer of them", "[unit][link]") {
  LinkCost cost{.latency = 100e-6, .seconds_per_byte = 1e-8};
  CHECK(cost.step(0) == 100e-6);
  CHECK(std::abs(cost.step(20000) - 300e-6) < 1e-12);
  cost.hidden = 1;
  CHECK(std::abs(cost.step(5000) - 100e-6) < 1e-12);
  CHECK(std::abs(cost.step(20000) - 200e-6) < 1e-12);
}

TEST_CASE("the limits of the algorithms follow the costs", "[unit][link]") {
  const auto apart = [](int ranks) {
    std::vector<int> hosts;
    for (int r = 0; r < ranks; ++r) hosts.push_back(r);
    return hosts;
  };
  const auto limit = [&](double latency_us, double gbps, int ranks) {
    return tuning_for({latency_us * 1e-6, 8e-9 / gbps}, apart(ranks)).small_bytes;
  };
  CHECK(limit(50, 1, 1) == 0);
  // 4 ranks: 2 steps of B against halving's 4 of 3/2 B together, so two latencies pay for half of B on the
  // wire.
  CHECK(limit(50, 1, 4) == 23170);  // 24.4 kB; half-way between 16 and 32 KiB
  CHECK(limit(200, 1, 4) > limit(50, 1, 4));
  CHECK(limit(50, 0.1, 4) < limit(50, 1, 4) / 5);
  CHECK(limit(0, 1, 4) == 0);
  CHECK(limit(1e6, 1, 4) == 741455);         // whatever the latency
  CHECK(limit(50, 1, 2) > limit(50, 1, 4));  // two ranks send the same bytes either way
  CHECK(limit(50, 1, 3) < limit(50, 1, 4));  // no power of two: two steps more
  CHECK(limit(50, 1, 8) > 0);

  // Between doubling and ring: a ring of 8 has 14 steps, halving 6. The ring wins where it has no bytes to
  // spare.
  const Tuning eight = tuning_for({50e-6, 8e-9}, apart(8));
  CHECK(eight.halving_bytes > eight.small_bytes);
  CHECK(tuning_for({50e-6, 8e-9}, apart(2)).halving_bytes == 0);
  CHECK(tuning_for({50e-6, 8e-9}, apart(6)).halving_bytes == 0);  // folding costs twice the tensor

  const std::size_t never = Tuning().hierarchy_bytes;
  CHECK(eight.hierarchy_bytes == never);
  CHECK(tuning_for({50e-6, 8e-9}, std::vector<int>{0, 0, 0, 0}).hierarchy_bytes == never);
  const Tuning shared = tuning_for({50e-6, 8e-9}, std::vector<int>{0, 0, 1, 1});
  CHECK(shared.hierarchy_bytes < 1024 * 1024);
  CHECK(shared.hierarchy_bytes >= shared.small_bytes);
  CHECK(shared.host_of == std::vector<int>{0, 0, 1, 1});
  // Not where the hosts' memory is slower than the links between them.
  LinkCost slow{50e-6, 8e-9};
  slow.local_seconds_per_byte = 4e-8;
  CHECK(tuning_for(slow, std::vector<int>{0, 0, 1, 1}).hierarchy_bytes == never);
}

TEST_CASE("the algorithm that the limits give is the fastest of the model, but for what lies near them",
          "[unit][link]") {
  for (const int ranks : {3, 4, 8, 16}) {
    for (const double latency : {1e-5, 6e-5, 1e-3}) {
      for (const double hidden : {0.0, 0.5, 1.0}) {
        const LinkCost cost{latency, 8e-9, hidden};
        std::vector<int> hosts(static_cast<std::size_t>(ranks));
        for (int r = 0; r < ranks; ++r) hosts[static_cast<std::size_t>(r)] = r;
        const Tuning tuning = tuning_for(cost, hosts);
        for (double bytes = 64; bytes <= 1 << 19; bytes *= 2) {
          const auto seconds = [&](Algorithm a) { return expected_seconds(a, bytes, cost, hosts); };
          const Algorithm chosen = bytes <= static_cast<double>(tuning.small_bytes)     ? Algorithm::doubling
                                   : bytes <= static_cast<double>(tuning.halving_bytes) ? Algorithm::halving
                                                                                        : Algorithm::ring;
          const double best =
              std::min({seconds(Algorithm::doubling), seconds(Algorithm::halving), seconds(Algorithm::ring)});
          INFO(ranks << " ranks, " << latency << " s, hidden " << hidden << ", " << bytes << " bytes");
          CHECK(seconds(chosen) <= 1.05 * best);
        }
      }
    }
  }
}

TEST_CASE("where ranks share hosts, too", "[unit][link]") {
  const auto ranks_on = [](std::vector<int> each) {
    std::vector<int> host_of;
    for (std::size_t h = 0; h < each.size(); ++h)
      host_of.insert(host_of.end(), static_cast<std::size_t>(each[h]), static_cast<int>(h));
    return host_of;
  };
  const std::vector<std::vector<int>> shapes{{2, 2},    {4, 4, 4, 4}, {2, 2, 2, 2, 2, 2, 2, 2},
                                             {1, 4, 4}, {2, 8, 8},    {1, 7}};
  for (const auto& each : shapes) {
    const auto host_of = ranks_on(each);
    const bool alike = each.front() == each.back();
    const auto ranks = static_cast<int>(host_of.size());
    for (const double cross : {8e-9, 8e-10}) {
      LinkCost cost{5e-5, cross};
      cost.local_seconds_per_byte = 8e-9 / 20;
      const Tuning tuning = tuning_for(cost, host_of);
      for (double bytes = 1; bytes <= 1 << 30; bytes *= 2) {
        const auto seconds = [&](Algorithm a) { return expected_seconds(a, bytes, cost, host_of); };
        const Algorithm chosen = choose_reduction(static_cast<std::size_t>(bytes), false, ranks, tuning);
        double best = seconds(Algorithm::ring);
        if (bytes <= 1 << 19) best = std::min(best, seconds(Algorithm::doubling));
        if (bytes <= 1 << 21) best = std::min(best, seconds(Algorithm::halving));
        if (alike) best = std::min(best, seconds(Algorithm::hierarchical));
        INFO(ranks << " ranks, first host " << each.front() << ", " << cross << " s a byte, " << bytes
                   << " bytes");
        CHECK(seconds(chosen) <= 1.05 * best);
      }
    }
  }
}

TEST_CASE("all ranks take the figures that rank 0 was given", "[ranks][link]") {
  on_ranks(3, [](Communicator& c) {
    const LinkCost mine{1e-5 * (c.rank() + 1), 1e-9 * (c.rank() + 1)};
    const auto agreed = agree_link_cost(c, c.rank() == 1 ? std::nullopt : std::optional(mine));
    if (!(agreed == LinkCost{.latency = 1e-5, .seconds_per_byte = 1e-9}))
      throw std::runtime_error("not rank 0's figures");
  });
}

TEST_CASE("what ranks measure is the same on all of them, however slow one is", "[ranks][link]") {
  const int ranks = GENERATE(1, 2, 3, 4);
  on_ranks(ranks, [](Communicator& c) {
    if (c.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    // Given on another rank than 0 does not count.
    std::vector<int> hosts;
    for (int r = 0; r < c.size(); ++r) hosts.push_back(r / 2);  // of four ranks, two on each
    const auto cost =
        agree_link_cost(c, c.rank() == 1 ? std::optional(LinkCost{1000, 1000}) : std::nullopt, hosts);
    const bool levels = c.size() == 3 || c.size() == 4;
    if ((cost.local_seconds_per_byte > 0) != levels || (cost.cross_seconds_per_byte > 0) != levels) {
      throw std::runtime_error("not the costs of the two levels");
    }
    if (!(cost.latency > 0) || !(cost.seconds_per_byte > 0) || cost.latency > 100) {
      throw std::runtime_error("these are no costs");
    }
    require_same(c, cost);
  });
}

TEST_CASE("ranks that are tuned choose alike on both sides of the limit", "[ranks][link]") {
  const int ranks = GENERATE(2, 3, 4);
  on_ranks(ranks, Tuning{}, [](WireCommunicator& c) {
    std::vector<int> hosts(static_cast<std::size_t>(c.size()));
    std::iota(hosts.begin(), hosts.end(), 0);
    const Tuning tuning = tuning_for({20e-6, 1e-8}, hosts);
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
