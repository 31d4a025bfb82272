// See bucket_size.h.
#include "fusion/bucket_size.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <numeric>
#include <vector>

#include "comm/algorithms/choice.h"

namespace acp {

namespace {

int ceil_log2(int n) {
  int result = 0;
  while ((1 << result) < n) ++result;
  return result;
}

double dense_bytes(const ParameterInfo& p) {
  return static_cast<double>(p.numel()) * static_cast<double>(at::elementSize(p.dtype));
}

// A bucket, as far as time is concerned.
struct Load {
  double ready = 0;    // its last gradient arrives
  double message = 0;  // seconds on the wire of each of its messages
  double coding = 0;   // of the engine's thread, before its last message and again after it
};

std::vector<Load> loads_of(const Plan& plan, std::span<const ParameterInfo> parameters,
                           std::span<const double> arrivals, const StepCosts& costs) {
  std::vector<Load> loads;
  for (const auto& bucket : plan) {
    double wire = 0, dense = 0;
    Load load{-std::numeric_limits<double>::infinity()};
    for (const int i : bucket) {
      const auto at = static_cast<std::size_t>(i);
      wire += parameters[at].wire_bytes;
      dense += dense_bytes(parameters[at]);
      load.ready = std::max(load.ready, arrivals[at]);
    }
    load.message = message_seconds(costs, wire / costs.messages);
    load.coding = costs.coding * dense / 2;
    loads.push_back(load);
  }
  return loads;
}

}  // namespace

double message_seconds(const StepCosts& costs, double bytes) {
  const LinkCost& link = costs.link;
  const double n = costs.ranks;
  if (costs.ranks == 1) return costs.handover;
  if (costs.exchange == "gather") return costs.handover + (n - 1) * link.step(bytes);
  if (costs.exchange == "tree") return costs.handover + 2.0 * ceil_log2(costs.ranks) * link.step(bytes);
  // All at once to all, half of the bytes in each message.
  if (costs.exchange == "scatter") return costs.handover + link.step(2 * (n - 1) / n * bytes);
  const bool open = costs.algorithm == Algorithm::automatic || costs.algorithm == Algorithm::native;
  const Algorithm algorithm =
      open ? choose_reduction(static_cast<std::size_t>(bytes), false, costs.ranks, costs.tuning)
           : costs.algorithm;
  std::vector<int> apart(static_cast<std::size_t>(costs.ranks));
  std::iota(apart.begin(), apart.end(), 0);
  return costs.handover +
         expected_seconds(algorithm, bytes, link, link.host_of.empty() ? apart : link.host_of);
}

// The loop of Engine::run_step() with times in place of work: one engine, one wire, first in first out.
double exposed_seconds(const Plan& plan, std::span<const ParameterInfo> parameters,
                       std::span<const double> arrivals, const StepCosts& costs) {
  struct Flight {
    const Load* load;
    int left;  // messages after this one
    double done;
  };
  const auto loads = loads_of(plan, parameters, arrivals, costs);
  double engine = -std::numeric_limits<double>::infinity(), wire = engine, last = engine;
  std::deque<Flight> flight;
  const auto send = [&](const Load& load, int left) {
    wire = std::max(engine, wire) + load.message;
    flight.push_back({&load, left, wire});
  };
  for (std::size_t next = 0; next < loads.size() || !flight.empty();) {
    if (next < loads.size() && flight.size() < costs.window) {
      const Load& load = loads[next++];
      engine = std::max(engine, load.ready) + load.coding / costs.messages;
      last = std::max(last, load.ready);
      send(load, costs.messages - 1);
    } else {
      const Flight oldest = flight.front();
      flight.pop_front();
      engine = std::max(engine, oldest.done);
      engine += oldest.left > 0 ? oldest.load->coding / costs.messages : oldest.load->coding;
      if (oldest.left > 0) send(*oldest.load, oldest.left - 1);
    }
  }
  return loads.empty() ? 0 : engine - last;
}

double choose_fusion_mb(std::span<const ParameterInfo> parameters, std::span<const int> order,
                        std::span<const double> arrivals, const StepCosts& costs) {
  struct Candidate {
    double fusion_mb;
    std::size_t buckets;
    double exposed;
  };
  constexpr int smallest = -8;  // half powers of two: 1/16 MB
  constexpr double indifferent = 0.005;
  double dense = 0;
  for (const auto& p : parameters) dense += dense_bytes(p) / (1024 * 1024);
  std::vector<Candidate> candidates;
  Plan before;
  const auto consider = [&](double fusion_mb) {
    auto plan = make_plan(parameters, order, fusion_mb);
    if (plan == before) return;
    candidates.push_back({fusion_mb, plan.size(), exposed_seconds(plan, parameters, arrivals, costs)});
    before = std::move(plan);
  };
  consider(0);
  for (int half = smallest;; ++half) {
    const double size = std::exp2(half / 2.0);
    consider(size);
    if (size >= dense) break;
  }

  const auto [first, last] = std::ranges::minmax(arrivals);
  const double least = std::ranges::min(candidates, {}, &Candidate::exposed).exposed;
  const double enough = least + indifferent * (last - first + least);
  const auto good = [&](const Candidate& c) { return c.exposed <= enough; };
  const Candidate* best = nullptr;
  for (const auto& candidate : candidates) {
    if (good(candidate) && (best == nullptr || candidate.buckets < best->buckets)) best = &candidate;
  }
  return best->fusion_mb;
}

}  // namespace acp
