// See measure.h.
#include "benchmarks/acp-comm/measure.h"

#include <ATen/ATen.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "benchmarks/common/measure.h"

namespace acp::programs {

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

Timing time_together(Communicator& c, const Repetitions& repetitions, const std::function<void()>& work) {
  std::vector<double> times;
  times.reserve(static_cast<std::size_t>(repetitions.iterations));
  for (std::int64_t i = 0; i < repetitions.warmup; ++i) work();
  perform(c, Collective::barrier());
  const double cpu_before = cpu_seconds();
  const auto began = Clock::now();
  for (std::int64_t i = 0; i < repetitions.iterations; ++i) {
    const auto start = Clock::now();
    work();
    times.push_back(since(start));
  }
  const double total = since(began), cpu = cpu_seconds() - cpu_before;
  std::sort(times.begin(), times.end());
  const double mean = std::accumulate(times.begin(), times.end(), 0.0) / static_cast<double>(times.size());
  const auto figures = at::tensor(std::vector<double>{percentile(times, 0.5), percentile(times, 0.99), mean,
                                                      -times.front(), times.back(), cpu / total},
                                  at::kDouble);
  perform(c, Collective::all_reduce(figures, ReduceOp::max));
  const auto* f = figures.const_data_ptr<double>();
  return {f[0], f[1], f[2], -f[3], f[4], f[5]};
}

std::int64_t sum_together(Communicator& c, std::int64_t value) {
  const auto sum = at::tensor(std::vector<std::int64_t>{value}, at::kLong);
  perform(c, Collective::all_reduce(sum));
  return sum.item<std::int64_t>();
}

}  // namespace acp::programs
