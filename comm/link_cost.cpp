// See link_cost.h.
#include "comm/link_cost.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "comm/error.h"

namespace acp {

namespace {

using Clock = std::chrono::steady_clock;

// Adding one byte of float32 to another takes about this long on one core.
constexpr double reduce_seconds_per_byte = 1.5e-10;

constexpr int barriers = 12, warm_up = 2, repeats = 3;
constexpr std::int64_t shortest = 16 * 1024, longest = 4 * 1024 * 1024;
// Long against what the clock and a switch's buffer can hide.
constexpr double long_enough = 2e-3;

double since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

double largest(Communicator& channel, double value) {
  const at::Tensor x = at::full({1}, value, at::kDouble);
  perform(channel, Collective::all_reduce(x, ReduceOp::max));
  return x.item<double>();
}

// Of a round in which every rank waits for another's message: a barrier has a logarithm of them.
double round_seconds(Communicator& channel) {
  std::vector<double> times;
  for (int i = 0; i < warm_up + barriers; ++i) {
    const auto began = Clock::now();
    perform(channel, Collective::barrier());
    if (i >= warm_up) times.push_back(since(began));
  }
  std::nth_element(times.begin(), times.begin() + barriers / 2, times.end());
  int rounds = 0;
  for (int distance = 1; distance < channel.size(); distance *= 2) ++rounds;
  return largest(channel, times[barriers / 2] / rounds);
}

// Of `bytes` from every rank to its right neighbour at once; somebody else's use of a core does not count.
double shift_seconds(Communicator& channel, const at::Tensor& mine, const at::Tensor& theirs) {
  const int n = channel.size(), rank = channel.rank();
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repeats; ++i) {
    perform(channel, Collective::barrier());
    const auto began = Clock::now();
    perform(channel, Collective::send_receive((rank + 1) % n, mine, (rank + n - 1) % n, theirs));
    least = std::min(least, largest(channel, since(began)));
  }
  return least;
}

double number(std::string_view text, std::string_view part, std::string_view value) {
  double result = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (error != std::errc() || end != value.data() + value.size() || !std::isfinite(result) || result < 0) {
    throw ConfigError("link cost \"" + std::string(text) + "\": " + std::string(part) + "=" +
                      std::string(value) + " is no number from 0");
  }
  return result;
}

}  // namespace

LinkCost parse_link_cost(std::string_view text) {
  const auto refuse = [&](const std::string& what) -> void {
    throw ConfigError("link cost \"" + std::string(text) + "\": " + what +
                      "; it has the form latency_us=30,gbps=0.95");
  };
  LinkCost cost;
  bool has_latency = false, has_rate = false;
  for (std::string_view rest = text; !rest.empty();) {
    const auto comma = rest.find(',');
    const auto part = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    const auto equals = part.find('=');
    const auto key = part.substr(0, equals);
    const auto value = equals == std::string_view::npos ? std::string_view() : part.substr(equals + 1);
    if (key == "latency_us") {
      cost.latency = number(text, key, value) * 1e-6;
      has_latency = true;
    } else if (key == "gbps") {
      const double rate = number(text, key, value);
      if (rate <= 0) refuse("gbps must be above 0");
      cost.seconds_per_byte = 8e-9 / rate;
      has_rate = true;
    } else {
      refuse("no such part as \"" + std::string(key) + "\"");
    }
  }
  if (!has_latency || !has_rate) refuse("latency_us or gbps is missing");
  return cost;
}

LinkCost measure_link_cost(Communicator& channel) {
  LinkCost cost;
  if (channel.size() == 1) return cost;
  cost.latency = round_seconds(channel);
  // The slope between the last two sizes: what a buffer on the way takes at once is in both of them.
  const at::Tensor mine = at::zeros({longest}, at::kByte), theirs = at::zeros({longest}, at::kByte);
  std::pair<double, double> before{0, cost.latency};
  for (std::int64_t bytes = shortest;; bytes *= 2) {
    const double time = shift_seconds(channel, mine.narrow(0, 0, bytes), theirs.narrow(0, 0, bytes));
    if (time >= long_enough || bytes >= longest) {
      const double slope = (time - before.second) / (static_cast<double>(bytes) - before.first);
      cost.seconds_per_byte = std::max(slope, 1e-12);
      return cost;
    }
    before = {static_cast<double>(bytes), time};
  }
}

LinkCost agree_link_cost(Communicator& channel, const std::optional<LinkCost>& given) {
  const LinkCost mine = given.value_or(LinkCost());
  const at::Tensor x =
      at::tensor(std::vector<double>{given ? 1.0 : 0.0, mine.latency, mine.seconds_per_byte}, at::kDouble);
  perform(channel, Collective::broadcast(x));
  const auto* values = x.const_data_ptr<double>();
  if (values[0] != 0) return {values[1], values[2]};
  return measure_link_cost(channel);
}

std::size_t doubling_limit(const LinkCost& cost, int ranks) {
  if (ranks < 2) return 0;
  int steps = 0, power = 1;
  for (; power * 2 <= ranks; power *= 2) ++steps;
  if (power < ranks) steps += 2;  // in, and out again
  const double n = ranks, ring_share = (n - 1) / n;
  // steps (a + B (b + r)) = 2 (n - 1) a + 2 (n - 1) / n B b + (n - 1) / n B r
  const double saved = (2 * (n - 1) - steps) * cost.latency;
  const double spent =
      (steps - 2 * ring_share) * cost.seconds_per_byte + (steps - ring_share) * reduce_seconds_per_byte;
  if (saved <= 0) return 0;
  // Beyond, a ring gains by working on segments, and a second buffer of the whole tensor is no small thing.
  constexpr double most = 1024.0 * 1024;
  const double limit = std::min(saved / spent, most);
  // Down to a power of the root of two: figures that hardly differ shall not change the order of sums.
  return limit < 1 ? 0 : static_cast<std::size_t>(std::exp2(std::floor(2 * std::log2(limit)) / 2));
}

}  // namespace acp
