// Where a step's time and bytes go, and what a process has used.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "acp/gradient_reducer.h"

namespace acp::programs {

// One step as this rank saw it; seconds.
struct StepSample {
  double total = 0;    // from asking for the batch to the end of the optimizer's step
  double data = 0;     // waiting for the batch
  double exposed = 0;  // waiting for the reduction with nothing else to do
  double encode = 0, decode = 0;
  double comm = 0;  // collectives of the gradients were being performed, waiting for the peers included
};

// Linear interpolation between the two nearest ranks; `sorted` must not be empty. q in 0 .. 1.
double percentile(const std::vector<double>& sorted, double q);

// Milliseconds: median, p10, p90 of the steps' totals; means of total (`mean`), of its parts `data`,
// `exposed_comm` and `compute` (the rest), and of `encode`, `decode` and `comm`, which overlap with compute
// and with each other. Zeros without steps.
nlohmann::json step_times(const std::vector<StepSample>& samples);

// What the reductions of the measured steps have moved. `snapshots` are running totals: one taken before the
// first measured step, then one after each; bytes sent beside it.
struct Traffic {
  ReducerStatistics reducer;
  std::uint64_t bytes_sent = 0;
};
struct TrafficSummary {
  double payload_bytes_per_step = 0, dense_bytes_per_step = 0, bytes_sent_per_step = 0,
         collectives_per_step = 0, compression_error = 0, compression_error_squared = 0;
  double compression_ratio = 1;  // dense / payload over an even number of steps (ACP-SGD's differ by turns)
  double wire_ratio = 0;         // dense fp32 by ring / bytes sent, over the same steps; 0 = nothing was sent
};
// `elements` of all gradients together; a ring all-reduce of them in fp32 sends 2 (N - 1) / N * 4 bytes each.
TrafficSummary summarize(const std::vector<Traffic>& snapshots, std::int64_t elements, int world_size);

// Largest resident set of this process so far, in MiB.
double peak_rss_mb();

}  // namespace acp::programs
