// The suite of collectives over tcp, ranks as threads; lengths that reach every path.
#include "comm/algorithms/algorithms.h"
#include "comm/wire_communicator.h"
#include "tests/catch.h"
#include "tests/support/collective_suite.h"
#include "tests/tcp/tcp_ranks.h"

using namespace acp;
using namespace acp::tcp;

namespace {

void on_channels(int n, int streams, const std::function<void(Communicator&)>& body,
                 const Tuning& tuning = {}) {
  const int port = free_port();
  std::vector<std::function<void()>> bodies;
  for (int r = 0; r < n; ++r) {
    bodies.emplace_back([&, r] {
      Endpoint endpoint = local_endpoint(r, n, port);
      endpoint.streams = streams;
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
  const int n = GENERATE(2, 3, 4);
  on_channels(n, n == 3 ? 1 : 2, test::run_collective_suite);
}

TEST_CASE("tcp: independent channels", "[tcp]") {
  on_channels(3, 2, test::run_channel_suite);
}

TEST_CASE("tcp: very short segments", "[tcp]") {
  const std::uint64_t seed = 3;
  on_channels(3, 2, [&](Communicator& c) { test::run_random_suite(c, seed, 120); }, {256, 512});
}
