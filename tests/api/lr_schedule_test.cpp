// Learning-rate schedules against values computed by hand.
#include "benchmarks/common/lr_schedule.h"

#include <cmath>
#include <limits>

#include "comm/error.h"
#include "tests/catch.h"

using acp::ConfigError;
using acp::programs::LrRun;
using acp::programs::LrSchedule;

namespace {

// 10 epochs of 4 steps, rate 0.8.
LrRun run(std::uint64_t warmup = 0) {
  return {0.8, 40, 4, warmup};
}

double value_at(const std::string& spec, std::uint64_t step, std::uint64_t warmup = 0) {
  return LrSchedule(spec, run(warmup)).at(step);
}

}  // namespace

TEST_CASE("schedules by step and epoch", "[api][lr]") {
  CHECK(value_at("constant", 0) == 0.8);
  CHECK(value_at("constant", 39) == 0.8);

  CHECK(value_at("linear", 0) == Approx(0.8));
  CHECK(value_at("linear", 10) == Approx(0.6));
  CHECK(value_at("linear", 39) == Approx(0.02));
  CHECK(value_at("linear:final=0.5", 20) == Approx(0.6));
  CHECK(value_at("linear", 100) == Approx(0).margin(1e-15));

  CHECK(value_at("cosine", 0) == Approx(0.8));
  CHECK(value_at("cosine", 20) == Approx(0.4));
  CHECK(value_at("cosine", 10) == Approx(0.4 * (1 + std::sqrt(0.5))));
  CHECK(value_at("cosine:final=0.25", 40) == Approx(0.2));

  CHECK(value_at("step:every=3,gamma=0.5", 11) == Approx(0.8));  // epoch 2
  CHECK(value_at("step:every=3,gamma=0.5", 12) == Approx(0.4));  // epoch 3
  CHECK(value_at("step:every=3,gamma=0.5", 39) == Approx(0.1));  // epoch 9
  CHECK(value_at("step", 39) == Approx(0.8));                    // every=30

  CHECK(value_at("milestones:at=2/5,gamma=0.1", 7) == Approx(0.8));
  CHECK(value_at("milestones:at=2/5,gamma=0.1", 8) == Approx(0.08));
  CHECK(value_at("milestones:at=2/5,gamma=0.1", 20) == Approx(0.008));

  CHECK(value_at("exponential:gamma=0.5", 3) == Approx(0.8));
  CHECK(value_at("exponential:gamma=0.5", 8) == Approx(0.2));

  CHECK(value_at("inverse:decay=0.5,hold=2", 4) == Approx(0.8));        // epoch 1
  CHECK(value_at("inverse:decay=0.5,hold=2", 8) == Approx(0.8 / 1.5));  // epoch 2
  CHECK(value_at("inverse:decay=0.5,hold=2", 12) == Approx(0.4));       // epoch 3
  CHECK(value_at("inverse", 39) == Approx(0.8));                        // decay=0

  CHECK(value_at("inverse-sqrt:from=4", 3) == Approx(0.8));
  CHECK(value_at("inverse-sqrt:from=4", 15) == Approx(0.4));
  CHECK(value_at("inverse_sqrt:from=4", 15) == Approx(0.4));
}

TEST_CASE("piecewise rates are rates, not factors", "[api][lr]") {
  const std::string spec = "piecewise:at=0/5/30,value=0/0.4/0";
  LrSchedule schedule(spec, {123, 120, 4, 0});
  CHECK_FALSE(schedule.uses_base_rate());
  CHECK(schedule.at(0) == 0);
  CHECK(schedule.at(10) == Approx(0.2));  // x = 2.5
  CHECK(schedule.at(20) == Approx(0.4));  // x = 5
  CHECK(schedule.at(70) == Approx(0.2));  // x = 17.5
  CHECK(schedule.at(120) == 0);
  CHECK(schedule.at(500) == 0);
}

TEST_CASE("warm-up rises to the schedule", "[api][lr]") {
  CHECK(value_at("constant", 0, 4) == Approx(0.2));
  CHECK(value_at("constant", 3, 4) == Approx(0.8));
  CHECK(value_at("constant", 4, 4) == Approx(0.8));
  // linear and cosine run over what follows the warm-up: t = 18 of T = 36.
  CHECK(value_at("linear", 22, 4) == Approx(0.4));
  CHECK(value_at("cosine", 22, 4) == Approx(0.4));
  CHECK(value_at("linear", 3, 4) == Approx(0.8));
  // The warm-up is where inverse-sqrt starts to fall.
  CHECK(value_at("inverse-sqrt", 15, 4) == Approx(0.4));
  CHECK(value_at("inverse-sqrt", 1, 4) == Approx(0.4));
}

TEST_CASE("plateau waits for `patience` evaluations without progress", "[api][lr]") {
  LrSchedule schedule("plateau:patience=2,gamma=0.1,threshold=0.1", run());
  const auto rate = [&] { return schedule.at(5); };
  schedule.evaluated(1.0);
  schedule.evaluated(0.95);  // not below 0.9: 1
  schedule.evaluated(0.92);  // 2
  CHECK(rate() == Approx(0.8));
  SECTION("a third one reduces") {
    schedule.evaluated(std::numeric_limits<double>::quiet_NaN());
    CHECK(rate() == Approx(0.08));
    schedule.evaluated(0.95);
    schedule.evaluated(0.95);
    CHECK(rate() == Approx(0.08));
    schedule.evaluated(0.95);
    CHECK(rate() == Approx(0.008));
  }
  SECTION("progress starts the count again") {
    schedule.evaluated(0.5);
    schedule.evaluated(0.5);
    schedule.evaluated(0.5);
    CHECK(rate() == Approx(0.8));
  }
  SECTION("its memory is saved") {
    LrSchedule other("plateau:patience=2,gamma=0.1,threshold=0.1", run());
    other.load_state(schedule.state());
    other.evaluated(0.95);
    CHECK(other.at(5) == Approx(0.08));
  }
  SECTION("others remember nothing") {
    LrSchedule other("constant", run());
    other.evaluated(1);
    CHECK(other.state().empty());
  }
}

TEST_CASE("a first evaluation that is no number is no progress", "[api][lr]") {
  LrSchedule schedule("plateau:patience=1", run());
  schedule.evaluated(std::numeric_limits<double>::quiet_NaN());
  schedule.evaluated(5);
  schedule.evaluated(4);
  CHECK(schedule.at(0) == Approx(0.8));
}

TEST_CASE("what a schedule does not take", "[api][lr]") {
  const auto fails = [](const std::string& spec, const std::string& with) {
    CHECK_THROWS_WITH(LrSchedule(spec, run()), ContainsSubstring(with));
    CHECK_THROWS_AS(LrSchedule(spec, run()), ConfigError);
  };
  fails("linar", "did you mean linear?");
  fails("step:evry=3", "every");
  fails("step:every=0", "every");
  fails("step:every=x", "every");
  fails("exponential:gamma=1.5", "gamma");
  fails("milestones:at=5/2", "increasing");
  fails("piecewise:at=0/5,value=0/1/2", "2 epochs in `at` and 3 in `value`");
  fails("piecewise:at=0/5,value=0/-1", "at least 0");
  fails("linear+step", "compose");
  fails("", "");
  CHECK(LrSchedule("step:gamma=0.2,every=7", run()).spec() == "step:every=7,gamma=0.2");
}

TEST_CASE("the table of schedules is complete and sorted", "[api][lr]") {
  std::string last;
  for (const auto& info : acp::programs::lr_schedules()) {
    CHECK(last < info.name);
    last = info.name;
    const LrSchedule schedule(info.name, run());
    CHECK(std::isfinite(schedule.at(0)));
    CHECK(schedule.at(20) >= 0);
  }
}
