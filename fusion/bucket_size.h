// Chooses how much gradient travels in a message (fusion_mb "auto") by playing one step through for each
// size.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "comm/algorithms/algorithms.h"
#include "comm/link_cost.h"
#include "fusion/plan.h"

namespace acp {

// What a step is played with; docs/tuning.md has the formulas.
struct StepCosts {
  LinkCost link;
  int ranks = 1;
  Tuning tuning;                               // of all-reduces
  Algorithm algorithm = Algorithm::automatic;  // that the user asks for
  std::string exchange = "reduce";             // as CompressorFactory::exchange() has it
  int messages = 1;                            // of a bucket, each of which needs what the one before brought
  std::size_t window = 2;                      // EngineOptions::window
  // Seconds of a message beside the network's: handing it to the wire thread, waking the engine's.
  double handover = 5e-5;
  // Seconds of coding per byte of gradient, of which one half precedes the last message and one follows it.
  double coding = 0;
};

// Seconds of one message of `bytes` on each rank.
double message_seconds(const StepCosts& costs, double bytes);

// Seconds from the last gradient's arrival until the last bucket's average is there. `arrivals` has the
// seconds at which each parameter's gradient arrives, from any moment on.
double exposed_seconds(const Plan& plan, std::span<const ParameterInfo> parameters,
                       std::span<const double> arrivals, const StepCosts& costs);

// The size for make_plan() with which the step is expected to end first. Among sizes that differ by less than
// half a per cent of the backward pass and what follows it, the one with the fewest messages.
double choose_fusion_mb(std::span<const ParameterInfo> parameters, std::span<const int> order,
                        std::span<const double> arrivals, const StepCosts& costs);

}  // namespace acp
