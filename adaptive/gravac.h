// GraVAC's controller: how far compression may go before it costs more statistical gain than it saves time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "adaptive/accordion.h"
#include "adaptive/policy.h"

namespace acp {

struct GravacSettings {
  std::vector<double> ladder;  // factors (1 / kept fraction), ascending; the first is always affordable
  double epsilon = 0.75;       // least gain that is accepted
  double omega = 0.05;         // relative closeness of the two best throughputs that ends the search
  std::size_t window = 25;
  double alpha = 0.05;
  std::uint64_t interval = 2000;     // steps between evaluations, more than the window
  std::uint64_t research_every = 0;  // steps after which the search begins anew; 0: never
};

// theta_min, theta_min * step, ... up to theta_max, which ends it.
std::vector<double> gravac_ladder(double theta_min, double theta_max, double step);

enum class GravacLabel : std::uint8_t { warmup, current, min, dense };
std::string to_string(GravacLabel label);

// A deterministic machine: equal inputs give equal decisions on every rank. A step is decide(), then
// finish(). (Tyagi and Swany, GraVAC, IEEE CLOUD 2023; control flow corrected, as the published program sends
// nothing at all in some steps and lets ranks part.)
class GravacController {
 public:
  explicit GravacController(GravacSettings settings);

  struct Decision {
    GravacLabel label = GravacLabel::warmup;
    double factor = 1;           // that is sent; 1 = dense
    std::optional<double> gain;  // smoothed N(sent) / N(gradient); none while warming up
  };
  // Norms of a step: of the gradient, of what theta_min keeps, of what the candidate keeps (none if it was
  // measured for another candidate).
  Decision decide(double raw, double min, std::optional<double> candidate);

  // With the throughput of that step; nothing: it was not measured. Returns what the evaluation said ("NEXT",
  // "OMEGA", "END"), or nothing.
  std::string finish(std::optional<double> throughput);

  double candidate() const { return settings_.ladder[index_]; }
  double theta_min() const { return settings_.ladder.front(); }
  std::uint64_t steps() const { return step_; }
  bool searching() const { return searching_; }

  PolicyState state() const;
  void load_state(const PolicyState& state);

 private:
  struct Sum {
    double sum = 0;
    std::uint64_t count = 0;
  };
  std::string evaluate();
  void choose(double factor);

  GravacSettings settings_;
  std::size_t index_ = 0;  // of the candidate
  bool searching_ = true;
  std::uint64_t step_ = 0, settled_ = 0;  // steps; at which the search ended
  MovingAverage raw_, min_, candidate_;
  std::map<double, Sum> sums_;           // of this interval, by factor
  std::map<double, double> throughput_;  // of the last interval in which a factor was sent
  bool always_dense_ = true;             // in this interval
  Decision last_;
};

}  // namespace acp
