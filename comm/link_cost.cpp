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

#include "comm/algorithms/choice.h"
#include "comm/algorithms/hosts.h"
#include "comm/error.h"

namespace acp {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int short_reductions = 24, warm_up = 4;
constexpr std::int64_t short_bytes = 256;
constexpr std::int64_t shortest = std::int64_t{16} * 1024, longest = std::int64_t{4} * 1024 * 1024;
// Long against a latency, and with its repetitions against what a buffer on the way swallows at once.
constexpr double long_enough = 1e-3;
constexpr int repetitions = 4, batches = 3;

double since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

double largest(Communicator& channel, double value) {
  const at::Tensor x = at::full({1}, value, at::kDouble);
  perform(channel, Collective::all_reduce(x, ReduceOp::max));
  return x.item<double>();
}

// To a power of 2^(1/4): figures that hardly differ shall not make two runs add up in another order.
double rounded(double value) {
  return std::exp2(std::round(4 * std::log2(value)) / 4);
}

// Of a step with a short message, as the algorithm for short messages takes it. The faster quarter counts:
// somebody else's use of a core is none of the network's.
double short_step(Communicator& channel) {
  const at::Tensor x = at::zeros({short_bytes}, at::kByte);
  std::vector<double> times;
  for (int i = 0; i < warm_up + short_reductions; ++i) {
    Collective op = Collective::all_reduce(x);
    op.algorithm = Algorithm::doubling;
    const auto began = Clock::now();
    perform(channel, std::move(op));
    if (i >= warm_up) times.push_back(since(began));
  }
  std::nth_element(times.begin(), times.begin() + short_reductions / 4, times.end());
  return largest(channel, times[short_reductions / 4] / doubling_steps(channel.size()));
}

// A rank's neighbours in a pattern in which all send at once; -1: none.
struct Neighbours {
  int to = -1, from = -1;
};

// Sends zeros in one pattern, again and again.
class Shift {
 public:
  Shift(Communicator& channel, Neighbours neighbours)
      : channel_(channel),
        neighbours_(neighbours),
        mine_(at::zeros({longest}, at::kByte)),
        theirs_(at::zeros({longest}, at::kByte)) {}

  // Seconds of each of `count` messages of `bytes` that follow each other, on the slowest rank, of the
  // fastest of `batches`: somebody else's use of a core is none of the network's.
  double seconds(std::int64_t bytes, int count, int batches) {
    double least = std::numeric_limits<double>::infinity();
    for (int batch = 0; batch < batches; ++batch) {
      const auto began = Clock::now();
      for (int i = 0; i < count; ++i) once(bytes);
      least = std::min(least, since(began) / count);
    }
    return largest(channel_, least);
  }

  // Seconds per byte of messages that take long enough.
  // (One try would not do: a rank that did not get its core in time looks like a slow link.)
  double per_byte(double latency) {
    const double enough = std::max(long_enough, 10 * latency);
    std::int64_t bytes = shortest;
    while (bytes < longest && seconds(bytes, 1, batches) < enough) bytes *= 4;
    return seconds(bytes, repetitions, batches) / static_cast<double>(bytes);
  }

 private:
  void once(std::int64_t bytes) {
    perform(channel_, Collective::send_receive(neighbours_.to, mine_.narrow(0, 0, bytes), neighbours_.from,
                                               theirs_.narrow(0, 0, bytes)));
  }

  Communicator& channel_;
  const Neighbours neighbours_;
  const at::Tensor mine_, theirs_;
};

Neighbours round_host(const Hosts& hosts) {
  const auto& own = hosts.own();
  const std::size_t n = own.size(), place = static_cast<std::size_t>(hosts.place);
  if (n == 1) return {};
  return {own[(place + 1) % n], own[(place + n - 1) % n]};
}

Neighbours across_hosts(const Hosts& hosts) {
  if (hosts.place >= hosts.columns) return {};
  const std::size_t n = hosts.ranks.size(), host = static_cast<std::size_t>(hosts.host);
  const auto place = static_cast<std::size_t>(hosts.place);
  return {hosts.ranks[(host + 1) % n][place], hosts.ranks[(host + n - 1) % n][place]};
}

// How much of a latency the wire's time hides behind, from messages whose times on the wire are twice the
// latency.
double hidden_share(Shift& shift, double latency, double seconds_per_byte) {
  const double bytes = std::clamp(2 * latency / seconds_per_byte, 1.0, static_cast<double>(longest));
  shift.seconds(static_cast<std::int64_t>(bytes), 8, 1);  // empties such a buffer
  const double time = shift.seconds(static_cast<std::int64_t>(bytes), 8, 2);
  const double share = (latency + bytes * seconds_per_byte - time) / latency;
  return std::round(2 * std::clamp(share, 0.0, 1.0)) / 2;
}

double number(std::string_view text, std::string_view part, std::string_view value) {
  double result = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (error != std::errc() || end != value.data() + value.size() || !std::isfinite(result) || result < 0) {
    throw ConfigError("ACP_LINK=\"" + std::string(text) + "\": " + std::string(part) + "=" +
                      std::string(value) + " is no number from 0");
  }
  return result;
}

}  // namespace

double LinkCost::step(double bytes) const {
  return latency + std::max(0.0, bytes * seconds_per_byte - hidden * latency);
}

LinkCost parse_link_cost(std::string_view text) {
  const auto refuse = [&](const std::string& what) -> void {
    throw ConfigError("ACP_LINK=\"" + std::string(text) + "\": " + what +
                      "; it has the form latency_us=30,gbps=0.95 or latency_us=30,gbps=0.95,local_gbps=20");
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
    } else if (key == "local_gbps") {
      const double rate = number(text, key, value);
      if (rate <= 0) refuse("local_gbps must be above 0");
      cost.local_seconds_per_byte = 8e-9 / rate;
    } else {
      refuse("no such part as \"" + std::string(key) + "\"");
    }
  }
  if (!has_latency || !has_rate) refuse("latency_us or gbps is missing");
  return cost;
}

namespace {

LinkCost measure(Communicator& channel, std::span<const int> host_of) {
  LinkCost cost;
  const int n = channel.size(), rank = channel.rank();
  cost.latency = rounded(short_step(channel));
  Shift ring(channel, {(rank + 1) % n, (rank + n - 1) % n});
  cost.seconds_per_byte = rounded(ring.per_byte(cost.latency));
  cost.hidden = hidden_share(ring, cost.latency, cost.seconds_per_byte);
  const Hosts hosts = group_hosts(host_of, rank, n);
  if (!hosts.shared() || hosts.count() == 1) return cost;
  cost.local_seconds_per_byte = rounded(Shift(channel, round_host(hosts)).per_byte(cost.latency));
  cost.cross_seconds_per_byte = rounded(Shift(channel, across_hosts(hosts)).per_byte(cost.latency));
  return cost;
}

// Machines of two kinds may differ in the last bit of a logarithm, and so in a rounded figure.
LinkCost of_rank_0(Communicator& channel, const LinkCost& mine) {
  const at::Tensor x =
      at::tensor(std::vector<double>{mine.latency, mine.seconds_per_byte, mine.hidden,
                                     mine.local_seconds_per_byte, mine.cross_seconds_per_byte},
                 at::kDouble);
  perform(channel, Collective::broadcast(x));
  const auto* values = x.const_data_ptr<double>();
  LinkCost cost;
  cost.latency = values[0];
  cost.seconds_per_byte = values[1];
  cost.hidden = values[2];
  cost.local_seconds_per_byte = values[3];
  cost.cross_seconds_per_byte = values[4];
  return cost;
}

}  // namespace

LinkCost measure_link_cost(Communicator& channel, std::span<const int> host_of) {
  if (channel.size() == 1) return {};
  return of_rank_0(channel, measure(channel, host_of));
}

LinkCost agree_link_cost(Communicator& channel, const std::optional<LinkCost>& given,
                         std::span<const int> host_of) {
  const at::Tensor is_given = at::full({1}, given ? 1.0 : 0.0, at::kDouble);
  perform(channel, Collective::broadcast(is_given));
  LinkCost cost = is_given.item<double>() != 0 ? of_rank_0(channel, given.value_or(LinkCost()))
                                               : measure_link_cost(channel, host_of);
  cost.host_of.assign(host_of.begin(), host_of.end());
  return cost;
}

}  // namespace acp
