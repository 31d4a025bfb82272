// The suite of collectives over tcp, ranks as threads; lengths that reach every path.
#include <ATen/ATen.h>

#include <latch>

#include "comm/algorithms/algorithms.h"
#include "comm/error.h"
#include "comm/wire_communicator.h"
#include "tests/catch.h"
#include "tests/support/collective_suite.h"
#include "tests/support/ranks.h"
#include "tests/tcp/tcp_ranks.h"

using namespace acp;
using namespace acp::tcp;

namespace {

void on_channels(int n, int streams, const std::function<void(Communicator&)>& body,
                 const Tuning& tuning = {}, bool local_sockets = false) {
  const int port = free_port();
  std::vector<std::function<void()>> bodies;
  for (int r = 0; r < n; ++r) {
    bodies.emplace_back([&, r] {
      Endpoint endpoint = local_endpoint(r, n, port);
      endpoint.streams = streams;
      endpoint.local_sockets = local_sockets;
      WireCommunicator communicator(connect(endpoint), tuning);
      try {
        body(communicator);
      } catch (...) {
        communicator.abort(std::current_exception());
        throw;
      }
    });
  }
  for (const Outcome& o : run_threads(bodies)) CHECK(o.text.empty());
}

}  // namespace

TEST_CASE("tcp: the suite of collectives", "[tcp]") {
  const int n = GENERATE(from_range(world_sizes({2, 3, 4}, 3)));
  on_channels(n, n == 3 ? 1 : 2, test::run_collective_suite);
}

TEST_CASE("tcp: independent channels", "[tcp]") {
  on_channels(3, 2, test::run_channel_suite);
}

TEST_CASE("tcp: very short segments", "[tcp]") {
  const std::uint64_t seed = 3;
  on_channels(3, 2, [&](Communicator& c) { test::run_random_suite(c, seed, 120); }, {256, 512});
}

TEST_CASE("tcp: the suite of collectives over sockets of one machine", "[tcp]") {
  const int n = GENERATE(2, 4);
  on_channels(n, n / 2, test::run_collective_suite, {}, true);
}

TEST_CASE("tcp: hierarchical, whatever shares a host", "[tcp][hierarchy]") {
  const auto hosts =
      GENERATE(std::vector<int>{0, 0, 1, 1}, std::vector<int>{0, 0, 0, 1}, std::vector<int>{0, 0});
  Tuning tuning{1024, 0};
  tuning.hierarchy_bytes = 0;
  tuning.host_of = hosts;
  const auto body = [](Communicator& c) {
    test::check_all(c, Algorithm::hierarchical, {0, 1, 250, 5000});
    for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
      test::check_bits(c, Algorithm::automatic, type, 10007);
    }
  };
  const bool local = GENERATE(false, true);
  on_channels(static_cast<int>(hosts.size()), 1, body, tuning, local);
}

TEST_CASE("tcp: hierarchical, and a rank that never comes", "[tcp][hierarchy]") {
  const Environment timeout("ACP_TIMEOUT", "1.5");
  const int absent = GENERATE(0, 1, 3);
  const bool local = GENERATE(false, true);
  std::latch done(3);
  const auto outcomes = outcomes_on_tcp(
      4,
      [&](Transport& t) {
        // It has met the others, and then stands still.
        if (t.rank() == absent) return done.wait();
        Tuning tuning;
        tuning.host_of = {0, 0, 1, 1};
        Workspace workspace;
        Collective op = Collective::all_reduce(at::zeros({100000}));
        op.algorithm = Algorithm::hierarchical;
        const Outcome o = outcome_of([&] { perform(op, t, workspace, tuning); });
        done.count_down();
        throw PeerError(o.peer, o.text);
      },
      [&](Endpoint& endpoint) { endpoint.local_sockets = local; });
  for (int r = 0; r < 4; ++r) {
    if (r == absent) continue;
    const Outcome& o = outcomes[static_cast<std::size_t>(r)];
    INFO(o.text);
    CHECK(o.peer == absent);
    CHECK_THAT(o.text, ContainsSubstring("did not take part within 1.5 s (ACP_TIMEOUT)"));
  }
}

TEST_CASE("tcp: a neighbour on this machine whose process has ended is named", "[tcp]") {
  const auto outcomes = outcomes_on_tcp(
      3,
      [&](Transport& t) {
        if (t.rank() == 1) throw std::runtime_error("out of memory");
        std::byte in[4];
        t.wait(t.receive(1, in, 1));
      },
      [](Endpoint& endpoint) { endpoint.local_sockets = true; });
  for (const int r : {0, 2}) {
    CHECK(outcomes[static_cast<std::size_t>(r)].peer == 1);
    CHECK_THAT(outcomes[static_cast<std::size_t>(r)].text, ContainsSubstring("out of memory"));
  }
}
