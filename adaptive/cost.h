// What a step's compression and communication are expected to cost.
#pragma once

#include <cstdint>

namespace acp {

// Seconds of an exchange: `alpha` per message, `beta` per byte that a rank contributes (the volume of the
// collective's algorithm is in it), `gamma` per number of a matrix and rank of its factors.
struct CostModel {
  double alpha = 0, beta = 0, gamma = 0;
  bool valid() const { return beta > 0; }
};

// Alpha and beta of two measurements, of messages of `small` and `large` bytes.
CostModel fit_costs(double small_bytes, double small_seconds, double large_bytes, double large_seconds);

}  // namespace acp
