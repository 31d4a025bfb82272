// See measure.h.
#include "benchmarks/common/measure.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace acp::programs {

double percentile(const std::vector<double>& sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const auto above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - std::floor(position)) * (sorted[above] - sorted[below]);
}

nlohmann::json step_times(const std::vector<StepSample>& samples) {
  std::vector<double> totals;
  StepSample sum;
  for (const auto& sample : samples) {
    totals.push_back(sample.total * 1e3);
    sum.total += sample.total;
    sum.data += sample.data;
    sum.exposed += sample.exposed;
    sum.encode += sample.encode;
    sum.decode += sample.decode;
    sum.comm += sample.comm;
  }
  if (totals.empty()) totals.push_back(0);
  std::sort(totals.begin(), totals.end());
  const double scale = 1e3 / static_cast<double>(totals.size());
  return {{"median", percentile(totals, 0.5)},
          {"p10", percentile(totals, 0.1)},
          {"p90", percentile(totals, 0.9)},
          {"mean", sum.total * scale},
          {"data", sum.data * scale},
          {"compute", std::max(0.0, sum.total - sum.data - sum.exposed) * scale},
          {"exposed_comm", sum.exposed * scale},
          {"encode", sum.encode * scale},
          {"decode", sum.decode * scale},
          {"comm", sum.comm * scale}};
}

TrafficSummary summarize(const std::vector<Traffic>& snapshots, std::int64_t elements, int world_size) {
  TrafficSummary result;
  if (snapshots.size() < 2) return result;
  const auto steps = snapshots.size() - 1;
  const auto& first = snapshots.front();
  const auto& last = snapshots.back();
  const auto mean = [&](std::uint64_t from, std::uint64_t to) {
    return static_cast<double>(to - from) / static_cast<double>(steps);
  };
  result.payload_bytes_per_step = mean(first.reducer.payload_bytes, last.reducer.payload_bytes);
  result.dense_bytes_per_step = mean(first.reducer.dense_bytes, last.reducer.dense_bytes);
  result.collectives_per_step = mean(first.reducer.collectives, last.reducer.collectives);
  result.compression_error =
      (last.reducer.compression_error - first.reducer.compression_error) / static_cast<double>(steps);
  result.compression_error_squared =
      (last.reducer.compression_error_squared - first.reducer.compression_error_squared) /
      static_cast<double>(steps);
  result.bytes_sent_per_step = mean(first.bytes_sent, last.bytes_sent);

  const auto even = steps > 1 ? steps - steps % 2 : steps;
  const auto& end = snapshots[even];
  const auto payload = static_cast<double>(end.reducer.payload_bytes - first.reducer.payload_bytes);
  const auto dense = static_cast<double>(end.reducer.dense_bytes - first.reducer.dense_bytes);
  const auto sent = static_cast<double>(end.bytes_sent - first.bytes_sent);
  const double ring = 2.0 * (world_size - 1) / world_size * 4 * static_cast<double>(elements);
  if (payload > 0) result.compression_ratio = dense / payload;
  const auto reductions =
      static_cast<double>(end.reducer.steps - first.reducer.steps);  // several a step with LBFGS
  if (sent > 0) result.wire_ratio = ring * reductions / sent;
  return result;
}

double peak_rss_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

}  // namespace acp::programs
