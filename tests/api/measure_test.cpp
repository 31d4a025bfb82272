// Figures per step: percentiles, the split of a step's time, ratios over an even number of steps.
#include "benchmarks/common/measure.h"

#include <nlohmann/json.hpp>

#include "tests/catch.h"

using namespace acp::programs;

TEST_CASE("percentiles interpolate", "[api][measure]") {
  CHECK(percentile({3}, 0.9) == 3);
  CHECK(percentile({1, 2, 3, 4}, 0.5) == Approx(2.5));
  CHECK(percentile({0, 10}, 0.1) == Approx(1));
  CHECK(percentile({0, 1, 2}, 1) == 2);
}

TEST_CASE("a step is data, compute and exposed communication", "[api][measure]") {
  const std::vector<StepSample> samples = {{0.010, 0.001, 0.002, 0.003, 0.001, 0.004},
                                           {0.030, 0.003, 0.006, 0.001, 0.001, 0.010}};
  const auto ms = step_times(samples);
  CHECK(ms["median"].get<double>() == Approx(20));
  CHECK(ms["mean"].get<double>() == Approx(20));
  CHECK(ms["p10"].get<double>() == Approx(12));
  CHECK(ms["p90"].get<double>() == Approx(28));
  CHECK(ms["data"].get<double>() == Approx(2));
  CHECK(ms["exposed_comm"].get<double>() == Approx(4));
  CHECK(ms["compute"].get<double>() == Approx(14));
  CHECK(ms["encode"].get<double>() == Approx(2));
  CHECK(ms["decode"].get<double>() == Approx(1));
  CHECK(ms["comm"].get<double>() == Approx(7));
  CHECK(step_times({})["median"].get<double>() == 0);
}

TEST_CASE("ratios take an even number of steps, means take all", "[api][measure]") {
  // Steps that send 10 and 30 bytes by turns, 100 dense; three of them. Earlier steps do not count.
  std::vector<Traffic> snapshots(4);
  const std::uint64_t payload[] = {1000, 1010, 1040, 1050};
  const std::uint64_t sent[] = {500, 520, 540, 560};
  for (std::size_t i = 0; i < 4; ++i) {
    snapshots[i].reducer.payload_bytes = payload[i];
    snapshots[i].reducer.dense_bytes = 700 + 100 * i;
    snapshots[i].reducer.collectives = 2 * i;
    snapshots[i].reducer.steps = i;
    snapshots[i].bytes_sent = sent[i];
  }
  const auto result = summarize(snapshots, 25, 2);
  CHECK(result.payload_bytes_per_step == Approx(50.0 / 3));
  CHECK(result.dense_bytes_per_step == Approx(100));
  CHECK(result.collectives_per_step == Approx(2));
  CHECK(result.bytes_sent_per_step == Approx(20));
  CHECK(result.compression_ratio == Approx(5));  // 200 / 40
  CHECK(result.wire_ratio == Approx(5));         // 2 * 1/2 * 100 bytes / 20
}

TEST_CASE("one rank, or no step, sends nothing", "[api][measure]") {
  std::vector<Traffic> snapshots(2);
  snapshots[1].reducer.payload_bytes = snapshots[1].reducer.dense_bytes = 40;
  const auto alone = summarize(snapshots, 10, 1);
  CHECK(alone.compression_ratio == 1);
  CHECK(alone.bytes_sent_per_step == 0);
  CHECK(alone.wire_ratio == 0);
  CHECK(summarize({}, 10, 2).payload_bytes_per_step == 0);
  CHECK(peak_rss_mb() > 1);
}
