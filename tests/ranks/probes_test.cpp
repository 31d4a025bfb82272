// Probes beside what is sent (GraVAC's multi-level compression): one error memory whichever fraction a step
// takes.
#include <ATen/ATen.h>

#include <vector>

#include "compressors/compressor.h"
#include "tests/catch.h"
#include "tests/support/rank_driver.h"

using namespace acp;

TEST_CASE("candidate, least factor or whole: sent + kept = gradient + kept before", "[ranks]") {
  const Shapes shapes{{"a", {37, 11}}, {"b", {23}}};
  for (const std::string method : {"topk:ratio=0.5", "randomk:ratio=0.5", "randomblock:ratio=0.5",
                                   "redsync:ratio=0.5", "topk:ratio=0.5+efsignsgd"}) {
    CAPTURE(method);
    const auto problems = each_rank(1, [&](Communicator& communicator) {
      std::vector<std::string> found;
      RankDriver driver(method, shapes, communicator, "residual");
      auto& compressor = driver.compressor();
      compressor.set_probes(std::vector<double>{0.5, 0.1, 0.02});
      const std::vector<Level> levels{0.5, 0.02, 0.1, std::nullopt, 0.02, 0.02, 0.5, 0.1, std::nullopt, 0.1};
      std::map<std::string, at::Tensor> kept;
      for (std::size_t i = 0; i < levels.size(); ++i) {
        compressor.set_levels(std::vector<Level>(shapes.size(), levels[i]));
        const auto gradients = random_gradients(shapes, 0, driver.next_step);
        const auto sent = driver.step(gradients);
        auto state = compressor.state();
        for (const auto& [name, shape] : shapes) {
          const auto zeros = at::zeros(shape);
          const auto before = kept.contains(name) ? kept[name] : zeros;
          const auto after = state[name].contains("error") ? state[name]["error"].clone() : zeros;
          const auto given = gradients.at(name) + before;
          const auto off = (sent.at(name) + after - given).abs().max().item<double>();
          if (off > 1e-5)
            found.push_back("step " + std::to_string(i) + ", " + name + ": off by " + std::to_string(off));
          if (!levels[i] && after.abs().max().item<double>() != 0)
            found.push_back("step " + std::to_string(i) + ": a whole step leaves something");
          kept[name] = after;
        }
      }
      return found;
    })[0];
    CHECK(problems == std::vector<std::string>());
  }
}

TEST_CASE("what a smaller fraction keeps of a larger one's choice is its own choice of all", "[ranks]") {
  const Shapes shapes{{"a", {100, 30}}};
  const auto kept = each_rank(1, [&](Communicator& communicator) {
    std::vector<double> norms;
    for (const bool multi : {true, false}) {
      RankDriver driver("topk:ratio=0.5", shapes, communicator, "residual");
      driver.compressor().set_probes(multi ? std::vector<double>{0.5, 0.01} : std::vector<double>{0.01});
      for (int i = 0; i < 3; ++i) {
        driver.step(random_gradients(shapes, 0, driver.next_step));
        norms.push_back(driver.compressor().probe_norms().kept.back().sum);
      }
    }
    return norms;
  })[0];
  REQUIRE(kept.size() == 6);
  for (std::size_t i = 0; i < 3; ++i) CHECK(kept[i] == kept[i + 3]);
}
