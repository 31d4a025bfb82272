// The cost model, and the limits that follow from it.
#include "comm/algorithms/choice.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "comm/algorithms/hosts.h"

namespace acp {

namespace {

// Adding one byte of float32 to another takes about this long on one core.
constexpr double reduce_seconds_per_byte = 1.5e-10;

constexpr double never = std::numeric_limits<double>::infinity();
// Beyond, a ring gains by working on segments, and a second buffer of the whole tensor is no small thing.
constexpr int longest_short = 19, longest_in_between = 21;  // powers of two
constexpr int largest = 40;

int folded_power(int ranks) {
  int power = 1;
  while (power * 2 <= ranks) power *= 2;
  return power;
}

double doubling_seconds(double bytes, const LinkCost& cost, int ranks) {
  return doubling_steps(ranks) * (cost.step(bytes) + bytes * reduce_seconds_per_byte);
}

double halving_seconds(double bytes, const LinkCost& cost, int ranks) {
  const int power = folded_power(ranks);
  double seconds = power < ranks ? 2 * cost.step(bytes) + bytes * reduce_seconds_per_byte : 0;
  for (int parts = 2; parts <= power; parts *= 2) {
    seconds += 2 * cost.step(bytes / parts) + bytes / parts * reduce_seconds_per_byte;
  }
  return seconds;
}

double ring_seconds(double bytes, const LinkCost& cost, int ranks) {
  const double chunk = bytes / ranks;
  return (ranks - 1) * (2 * cost.step(chunk) + chunk * reduce_seconds_per_byte);
}

double hierarchy_seconds(double bytes, const LinkCost& cost, const Hosts& hosts) {
  const double columns = hosts.columns, count = hosts.count();
  std::size_t most = 1;
  for (const auto& ranks : hosts.ranks) most = std::max(most, ranks.size());
  const double across_per_byte =
      cost.cross_seconds_per_byte > 0 ? cost.cross_seconds_per_byte : columns * cost.seconds_per_byte;
  // Each way: an owner's shard to all others of the host, and as much to it; and its share of the shard
  // across.
  const double local = 2 * (static_cast<double>(most) - 1) / columns * bytes * cost.local_seconds_per_byte;
  const double across = 2 * (count - 1) / count * bytes / columns * across_per_byte;
  const double adding = 2 * bytes / columns * reduce_seconds_per_byte;
  constexpr double overlapping = 8;  // blocks of a long tensor, at least
  const double messages = 2 * (static_cast<double>(most) - 1) + 2 * (count - 1);  // of an owner, in turn
  return messages * cost.latency + std::max(local + adding, across) +
         std::min(local + adding, across) / overlapping;
}

}  // namespace

int doubling_steps(int ranks) {
  int steps = 0;
  const int power = folded_power(ranks);
  for (int p = 1; p < power; p *= 2) ++steps;
  return power < ranks ? steps + 2 : steps;
}

double expected_seconds(Algorithm algorithm, double bytes, const LinkCost& cost,
                        std::span<const int> host_of) {
  const int ranks = static_cast<int>(host_of.size());
  switch (algorithm) {
    case Algorithm::doubling:
      return doubling_seconds(bytes, cost, ranks);
    case Algorithm::halving:
      return ranks > 2 ? halving_seconds(bytes, cost, ranks) : never;
    case Algorithm::hierarchical: {
      const Hosts hosts = group_hosts(host_of, 0, ranks);
      return hosts.shared() && hosts.count() > 1 ? hierarchy_seconds(bytes, cost, hosts) : never;
    }
    default:
      return ring_seconds(bytes, cost, ranks);
  }
}

Tuning tuning_for(const LinkCost& cost, std::span<const int> host_of) {
  Tuning tuning;
  tuning.small_bytes = tuning.direct_bytes = 0;
  tuning.host_of.assign(host_of.begin(), host_of.end());
  if (host_of.size() < 2) return tuning;
  const auto seconds = [&](Algorithm a, int power) {
    return expected_seconds(a, std::exp2(power), cost, host_of);
  };
  const auto half_way = [](int power) { return static_cast<std::size_t>(std::exp2(power + 0.5)); };
  // The hierarchy counts from where on it wins for good: with hosts of unlike numbers of ranks it may win
  // with short messages only.
  int two_levels = largest + 1;
  while (two_levels > 0 &&
         seconds(Algorithm::hierarchical, two_levels - 1) <= seconds(Algorithm::ring, two_levels - 1)) {
    --two_levels;
  }
  const auto hierarchy = [&](int power) {
    return power < two_levels ? never : seconds(Algorithm::hierarchical, power);
  };
  for (int power = 0; power <= longest_short; ++power) {
    if (seconds(Algorithm::doubling, power) > seconds(Algorithm::ring, power)) break;
    tuning.direct_bytes = half_way(power);
  }
  int power = 0;
  for (; power <= longest_short; ++power) {
    const double others =
        std::min({seconds(Algorithm::ring, power), seconds(Algorithm::halving, power), hierarchy(power)});
    if (seconds(Algorithm::doubling, power) > others) break;
    tuning.small_bytes = half_way(power);
  }
  for (; power <= longest_in_between; ++power) {
    // It must be worth leaving the ring's segments for.
    if (seconds(Algorithm::halving, power) >
        std::min(0.96 * seconds(Algorithm::ring, power), hierarchy(power)))
      break;
    tuning.halving_bytes = half_way(power);
  }
  two_levels = std::max(two_levels, power);
  if (two_levels <= largest) tuning.hierarchy_bytes = two_levels == 0 ? 0 : half_way(two_levels - 1);
  return tuning;
}

Algorithm choose_reduction(std::size_t bytes, bool half, int ranks, const Tuning& tuning) {
  if (half) {
    // One step instead of two, but n / 2 times the bytes: worth it up to a much smaller size than doubling.
    const auto n = static_cast<std::size_t>(ranks);
    if (bytes * n * (n - 1) <= tuning.small_bytes) return Algorithm::doubling;
  } else {
    if (bytes <= tuning.small_bytes) return Algorithm::doubling;
    if (bytes <= tuning.halving_bytes) return Algorithm::halving;
  }
  return bytes >= tuning.hierarchy_bytes ? Algorithm::hierarchical : Algorithm::ring;
}

}  // namespace acp
