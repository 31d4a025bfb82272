// The size of buckets that "auto" chooses, against steps played through by hand.
#include "fusion/bucket_size.h"

#include <numeric>

#include "comm/algorithms/choice.h"
#include "tests/catch.h"

using namespace acp;

namespace {

// `ms` is so long that adding up (0.15 ns a byte) does not count beside it.
constexpr double MB = 1024 * 1024, ms = 1;

Approx about(double value) {
  return Approx(value).epsilon(1e-3);
}

// `count` parameters of 2 MB, in the order of their arrival; `wire_share` of each is sent.
std::vector<ParameterInfo> model(std::size_t count, double wire_share = 1) {
  std::vector<ParameterInfo> result(count);
  for (std::size_t i = 0; i < count; ++i) {
    result[i].name = "p" + std::to_string(i);
    result[i].shape = {512, 1024};
    result[i].wire_bytes = wire_share * 2 * MB;
  }
  return result;
}

std::vector<int> in_order(std::size_t count) {
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

// Two ranks: a ring's all-reduce takes 2 latencies and the time of its bytes once.
StepCosts two_ranks(double latency, double seconds_per_mb) {
  StepCosts costs;
  costs.link = {latency, seconds_per_mb / MB};
  costs.ranks = 2;
  costs.tuning.small_bytes = 1024;
  costs.handover = 0;
  return costs;
}

const std::vector<double> every_3ms{3 * ms, 6 * ms, 9 * ms, 12 * ms};

double exposed(double fusion_mb, const StepCosts& costs, std::span<const double> arrivals = every_3ms,
               double wire_share = 1) {
  const auto parameters = model(arrivals.size(), wire_share);
  return exposed_seconds(make_plan(parameters, in_order(arrivals.size()), fusion_mb), parameters, arrivals,
                         costs);
}

double chosen(const StepCosts& costs, std::span<const double> arrivals = every_3ms, double wire_share = 1) {
  return choose_fusion_mb(model(arrivals.size(), wire_share), in_order(arrivals.size()), arrivals, costs);
}

}  // namespace

TEST_CASE("what a message takes", "[unit][bucket-size]") {
  StepCosts costs = two_ranks(1 * ms, 1 * ms);
  costs.ranks = 4;
  CHECK(message_seconds(costs, 8 * MB) == about(6 * ms + 12 * ms));       // 6 steps, 3/2 of the bytes
  CHECK(message_seconds(costs, 64) == about(2 * ms + 2 * 64 * ms / MB));  // doubling
  costs.algorithm = Algorithm::doubling;
  CHECK(message_seconds(costs, 8 * MB) == about(2 * ms + 16 * ms));
  // Pairs share a host: the hierarchy has half of the ring's bytes on the link.
  costs.algorithm = Algorithm::automatic;
  costs.link.host_of = {0, 0, 1, 1};
  costs.tuning = tuning_for(costs.link, costs.link.host_of);
  CHECK(message_seconds(costs, 8 * MB) == about(4 * ms + 8 * ms));
  costs.link.host_of.clear();
  costs.exchange = "gather";
  CHECK(message_seconds(costs, 1 * MB) == about(3 * ms + 3 * ms));
  costs.exchange = "scatter";
  CHECK(message_seconds(costs, 2 * MB) == about(1 * ms + 3 * ms));
  costs.exchange = "tree";
  CHECK(message_seconds(costs, 1 * MB) == about(4 * ms + 4 * ms));
  costs.handover = 0.5 * ms;
  CHECK(message_seconds(costs, 1 * MB) == about(8.5 * ms));
  costs.ranks = 1;
  CHECK(message_seconds(costs, 1 * MB) == about(0.5 * ms));
}

TEST_CASE("messages that hide behind the backward pass: one tensor each", "[unit][bucket-size]") {
  // A message of 2 MB takes 1 + 2 ms: one starts at each arrival, the last ends 3 ms after it.
  const auto costs = two_ranks(0.5 * ms, 1 * ms);
  CHECK(exposed(0, costs) == about(3 * ms));
  CHECK(exposed(4, costs) == about(5 * ms));
  CHECK(exposed(8, costs) == about(9 * ms));
  CHECK(chosen(costs) == 0);
}

TEST_CASE("long latencies: the whole model at once", "[unit][bucket-size]") {
  // One tensor each: 3 + 4 * 12 = 51; pairs: 6 + 2 * 14 = 34; all at once: 12 + 18 = 30 ms.
  const auto costs = two_ranks(5 * ms, 1 * ms);
  CHECK(exposed(0, costs) == about(39 * ms));
  CHECK(exposed(4, costs) == about(22 * ms));
  CHECK(exposed(8, costs) == about(18 * ms));
  CHECK(chosen(costs) >= 8);
}

TEST_CASE("in between: some at once", "[unit][bucket-size]") {
  // All arrive within 8 ms; a message takes 4 ms and 1 ms for each tensor in it. One each: 8 * 5 after 1 ms =
  // 41; pairs: 4 * 6 after 2 ms = 26; fours: 2 * 8 after 4 ms = 20, 12 exposed; all: 12 after 8 ms, 12
  // exposed.
  std::vector<double> arrivals(8);
  for (std::size_t i = 0; i < 8; ++i) arrivals[i] = static_cast<double>(i + 1) * ms;
  const auto costs = two_ranks(2 * ms, 0.5 * ms);
  CHECK(exposed(0, costs, arrivals) == about(33 * ms));
  CHECK(exposed(4, costs, arrivals) == about(18 * ms));
  CHECK(exposed(8, costs, arrivals) == about(12 * ms));
  CHECK(exposed(16, costs, arrivals) == about(12 * ms));
  CHECK(chosen(costs, arrivals) >= 16);  // as good with fewer messages
  // A message takes 1.5 ms and 1 ms for each tensor: pairs 2 + 4 * 3.5 = 16, fours 4 + 2 * 5.5 = 15, all 8
  // + 9.5 = 17.5.
  const auto low = two_ranks(0.75 * ms, 0.5 * ms);
  CHECK(exposed(8, low, arrivals) == about(7 * ms));
  CHECK(exposed(4, low, arrivals) == about(8 * ms));
  CHECK(exposed(16, low, arrivals) == about(9.5 * ms));
  CHECK(chosen(low, arrivals) == 8);
}

TEST_CASE("without overlap the fewest messages are best, whatever the link", "[unit][bucket-size]") {
  const std::vector<double> at_once(4, 0.0);
  CHECK(chosen(two_ranks(0.01 * ms, 1 * ms), at_once) >= 8);
  CHECK(chosen(two_ranks(5 * ms, 1 * ms), at_once) >= 8);
}

TEST_CASE("a compressed message is as long as what is sent", "[unit][bucket-size]") {
  const auto costs = two_ranks(2 * ms, 1 * ms);
  CHECK(exposed(8, costs, every_3ms, 0.25) == about(4 * ms + 2 * ms));  // 2 of 8 MB
}

TEST_CASE("coding takes the engine's time", "[unit][bucket-size]") {
  // 1 ms a tensor before its message and 1 ms after it; a message takes 1 + 2 ms, so the wire is busy from
  // 4 to 7, 7 to 10, 10 to 13 and 13 to 16 ms, and the engine decodes the last at 17.
  auto costs = two_ranks(0.5 * ms, 1 * ms);
  costs.coding = 1 * ms / MB;
  CHECK(exposed(0, costs) == about(5 * ms));
}

TEST_CASE("two messages, one after the other, within a window", "[unit][bucket-size]") {
  // Two tensors at 0 ms, each 2 messages of 1 MB: 2 ms each. Window 2: A1 B1 A2 B2 on the wire, 8 ms. Window
  // 1 the same, since nothing is left to overlap but the wire itself.
  const std::vector<double> at_once(2, 0.0);
  auto costs = two_ranks(0.5 * ms, 1 * ms);
  costs.messages = 2;
  const double message = message_seconds(costs, 1 * MB);
  CHECK(exposed(0, costs, at_once) == about(4 * message));
  // Coding of 0.5 ms before each message of a tensor and of 1 ms after the last: with a window of 1 nothing
  // overlaps.
  costs.coding = 1 * ms / MB;
  costs.window = 1;
  CHECK(exposed(0, costs, at_once) == about(4 * message + 4 * ms));
  costs.window = 2;
  CHECK(exposed(0, costs, at_once) < 4 * message + 4 * ms);
}
