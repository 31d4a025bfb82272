// Options say which setting makes no sense.
#include "acp/options.h"

#include <cmath>

#include "comm/error.h"
#include "tests/catch.h"

using namespace acp;

TEST_CASE("the defaults are in order", "[unit][options]") {
  const Options options;
  CHECK_NOTHROW(options.check());
  CHECK(options.compressor() == "none");
  CHECK(options.policy() == "uniform");
  CHECK(options.memory().empty());
  CHECK(options.fusion_mb() == 25);
  CHECK(options.backward_passes_per_step() == 1);
  CHECK(options.algorithm() == Algorithm::automatic);
}

TEST_CASE("a bucket's size is a number or auto", "[unit][options]") {
  CHECK(!Options().fusion_auto());
  CHECK(Options().fusion_mb("auto").fusion_auto());
  CHECK_NOTHROW(Options().fusion_mb("auto").check());
  CHECK(!Options().fusion_mb("auto").fusion_mb(3).fusion_auto());
  CHECK(Options().fusion_mb("2.5").fusion_mb() == 2.5);
}

TEST_CASE("each wrong setting is named", "[unit][options]") {
  CHECK_THROWS_WITH(Options().fusion_mb(-1).check(), ContainsSubstring("fusion_mb is -1"));
  CHECK_THROWS_WITH(Options().fusion_mb(std::nan("")).check(), ContainsSubstring("fusion_mb"));
  CHECK_THROWS_WITH(Options().fusion_mb(INFINITY).check(), ContainsSubstring("fusion_mb"));
  CHECK_NOTHROW(Options().fusion_mb(0).check());
  CHECK_THROWS_WITH(Options().fusion_mb("atuo"), ContainsSubstring("fusion_mb is \"atuo\"") &&
                                                     ContainsSubstring("number") &&
                                                     ContainsSubstring("\"auto\""));
  CHECK_THROWS_WITH(Options().fusion_mb("-3").check(), ContainsSubstring("fusion_mb is -3"));
  CHECK_THROWS_WITH(Options().clip_local(-0.5).check(), ContainsSubstring("clip_local is -0.5"));
  CHECK_THROWS_WITH(Options().backward_passes_per_step(0).check(),
                    ContainsSubstring("backward_passes_per_step is 0"));
  CHECK_THROWS_WITH(Options().window(0).check(), ContainsSubstring("window is 0"));
  CHECK_THROWS_WITH(Options().compressor("acpsdg:rank=4").check(),
                    ContainsSubstring("acpsdg") && ContainsSubstring("acpsgd"));
  CHECK_THROWS_WITH(Options().memory("residul").check(), ContainsSubstring("residul"));
  CHECK_THROWS_WITH(Options().policy("unifrom").check(), ContainsSubstring("did you mean \"uniform\"?"));
  CHECK_THROWS_WITH(Options().policy("uniform:interval=3").check(), ContainsSubstring("interval"));
  CHECK_THROWS_WITH(Options().policy("epoch").steps_per_epoch(0).check(),
                    ContainsSubstring("steps_per_epoch is 0"));
}

TEST_CASE("a policy is checked with the run's numbers as far as they are known", "[unit][options]") {
  const auto options = Options().compressor("topk").policy("accordion:period=1e,window=3");
  CHECK_NOTHROW(options.check());
  CHECK_NOTHROW(Options(options).steps_per_epoch(3).check());
  CHECK_THROWS_WITH(Options(options).steps_per_epoch(2).check(),
                    ContainsSubstring("window=3 is longer than an epoch of 2 steps"));
}

TEST_CASE("algorithms by name", "[unit][options]") {
  for (const auto algorithm : {Algorithm::automatic, Algorithm::ring, Algorithm::native, Algorithm::doubling,
                               Algorithm::halving, Algorithm::hierarchical}) {
    CHECK(parse_algorithm(to_string(algorithm)) == algorithm);
    CHECK(Options().algorithm(to_string(algorithm)).algorithm() == algorithm);
  }
  CHECK_THROWS_WITH(parse_algorithm("rings"), ContainsSubstring("did you mean \"ring\"?") &&
                                                  ContainsSubstring("auto, ring, native, doubling"));
}
