// What must hold for every sparsifier whatever the values are: edge cases, momentum correction, statistics of
// those that draw.
#include <ATen/ATen.h>

#include <cmath>

#include "comm/error.h"
#include "compressors/residual.h"
#include "tests/catch.h"
#include "tests/support/rank_driver.h"

using namespace acp;

namespace {

const std::vector<std::string> specs{"topk:ratio=0.1",
                                     "topk:ratio=0.1,exchange=tree",
                                     "topk:count=cat",
                                     "topk:values=fp16,indices=bitmap",
                                     "topk:indices=delta",
                                     "globaltopk:ratio=0.1",
                                     "randomk:ratio=0.1",
                                     "randomk:ratio=0.1,exchange=gather,draw=replace",
                                     "randomblock:ratio=0.3",
                                     "threshold:value=0.3",
                                     "threshold:form=half",
                                     "threshold:form=budget,budget=4",
                                     "threshold:form=kthvalue,ratio=0.1",
                                     "dgc:ratio=0.1",
                                     "dgc:ratio=0.1,exact_below=0",
                                     "redsync:ratio=0.1",
                                     "sidco:ratio=0.1",
                                     "adacomp",
                                     "adacomp:bin_size=7",
                                     "adacomp:bin_size=0,send=ternary"};

// Whose memory or values are not simply those of a sparsifier.
const std::vector<std::string> others{"variance",
                                      "variance:encoding=float32",
                                      "topk:ratio=0.1+efsignsgd",
                                      "topk:ratio=0.1+terngrad",
                                      "topk:ratio=0.5+qsgd:bits=4",
                                      "threshold:value=0.3+onebit",
                                      "adacomp+cgx"};

bool allows(const std::string& spec, const std::string& memory) {
  const auto allowed = CompressorFactory(spec, {}).memories();
  return std::ranges::find(allowed, memory) != allowed.end();
}

at::Tensor kept(RankDriver& driver, const std::string& name, const std::string& kind,
                const at::Tensor& like) {
  const auto found = find_state(driver.compressor().state(), name, kind);
  return found.defined() ? found : at::zeros_like(like);
}

double largest(const at::Tensor& x) {
  return x.numel() == 0 ? 0 : x.abs().max().item<double>();
}

// By what they are called; each of 61 elements, a size that no block divides, unless they say otherwise.
Gradients edges() {
  Gradients result{{"empty", at::zeros({3, 0})},
                   {"one", at::full({}, -2.5)},
                   {"one-zero", at::zeros({1})},
                   {"zeros", at::zeros({61})},
                   {"negative-zeros", at::full({61}, -0.0)},
                   {"equal", at::full({61}, 0.5)},
                   {"equal-negative", at::full({61}, -0.5)},
                   {"denormals", at::arange(-30, 31, at::kFloat) * 1e-42F},
                   {"one-of-many", at::zeros({61})},
                   {"far-apart", at::ones({61})},
                   {"signs", at::ones({61})}};
  result.at("one-of-many")[60] = 1e-30F;
  result.at("far-apart")[13] = 1e30F;
  result.at("far-apart")[14] = 1e-30F;
  result.at("signs").narrow(0, 20, 21).neg_();
  return result;
}

}  // namespace

TEST_CASE("edge values: same bits on all ranks, finite, nothing lost, no zero sent as something", "[ranks]") {
  auto all = specs;
  all.insert(all.end(), others.begin(), others.end());
  for (const auto& spec : all) {
    for (const std::string memory : {"none", "residual"}) {
      if (!allows(spec, memory)) continue;
      for (const auto& [name, x] : edges()) {
        if (name == "far-apart" && spec.starts_with("variance")) continue;  // squares overflow: refused
        const Shapes shapes{{name, x.sizes().vec()}};
        constexpr int size = 2;
        const auto ranks = each_rank(size, [&, name = name, x = x](Communicator& communicator) {
          RankDriver driver(spec, shapes, communicator, memory);
          std::vector<std::pair<at::Tensor, at::Tensor>> steps;  // average, error
          for (int i = 0; i < 3; ++i) {
            const auto average = driver.step({{name, communicator.rank() == 0 ? x : x / 2}}).at(name);
            steps.emplace_back(average, kept(driver, name, "error", x));
          }
          return steps;
        });
        CAPTURE(spec, memory, name);
        auto before = at::zeros_like(x, at::kDouble);
        for (std::size_t i = 0; i < 3; ++i) {
          const auto& average = ranks[0][i].first;
          CHECK(at::equal(average, ranks[1][i].first));
          CHECK(at::isfinite(average).all().item<bool>());
          if (largest(x) == 0) CHECK(largest(average) == 0);
          if (memory == "none") continue;
          const auto after = (ranks[0][i].second + ranks[1][i].second).to(at::kDouble);
          const auto lost = before + 1.5 * x.to(at::kDouble) - after - size * average.to(at::kDouble);
          // To rounding, of each element alone: a lost small one beside a large one must show. Ternary values
          // are all of the scale of the largest, as are a quantiser's.
          const bool shared_scale = spec.find_first_of("+") != std::string::npos || spec.ends_with("ternary");
          const auto scale = shared_scale ? at::full_like(lost, 6 * largest(x)) : 6 * x.abs().to(at::kDouble);
          CHECK((lost.abs() <= 3e-7 * scale + 1e-44).all().item<bool>());
          before = after;
        }
      }
    }
  }
}

TEST_CASE("momentum correction: sent + accumulated = accumulated before + velocity; sent elements forget it",
          "[ranks]") {
  const Shapes shapes{{"w", {20, 33}}, {"b", {7}}, {"empty", {2, 0}}, {"one", {1}}};
  constexpr double momentum = 0.75;
  struct Step {
    Gradients average, accumulated, velocity;
  };
  for (auto spec : specs) {
    if (!allows(spec, "dgc")) continue;
    spec += (spec.find(':') == std::string::npos ? ":" : ",") + std::string("momentum=0.75");
    for (const int size : {1, 3}) {
      const auto ranks = each_rank(size, [&](Communicator& communicator) {
        RankDriver driver(spec, shapes, communicator, "dgc");
        std::vector<Step> steps;
        for (std::uint64_t i = 0; i < 4; ++i) {
          Step step;
          const auto gradients = random_gradients(shapes, communicator.rank(), i);
          step.average = driver.step(gradients);
          for (const auto& [name, g] : gradients) {
            step.accumulated[name] = kept(driver, name, "accumulated", g);
            step.velocity[name] = kept(driver, name, "velocity", g);
          }
          steps.push_back(std::move(step));
        }
        return steps;
      });
      CAPTURE(spec, size);
      for (std::size_t i = 0; i < 4; ++i) {
        for (const auto& [name, shape] : shapes) {
          auto lost = -size * ranks[0][i].average.at(name);
          for (int rank = 0; rank < size; ++rank) {
            const auto& steps = ranks[static_cast<std::size_t>(rank)];
            auto velocity = random_gradients(shapes, rank, i).at(name);
            if (i > 0) {
              velocity = velocity + momentum * steps[i - 1].velocity.at(name);
              lost = lost + steps[i - 1].accumulated.at(name);
            }
            lost = lost + velocity - steps[i].accumulated.at(name);
            const auto& now = steps[i].velocity.at(name);
            const auto forgotten = now == 0;
            CHECK(largest(at::where(forgotten, at::zeros_like(now), now - velocity)) < 1e-6);
            if (size == 1) {
              const auto sent = steps[i].average.at(name) != 0;
              CHECK((forgotten | ~sent).all().item<bool>());
            }
          }
          CHECK(largest(lost) < 2e-5);
        }
      }
    }
  }
}

TEST_CASE("random blocks: consecutive, anywhere equally often, the same ones on all ranks", "[ranks]") {
  const Shapes shapes{{"x", {40}}};
  constexpr int draws = 10000;
  const auto counts = each_rank(2, [&](Communicator& communicator) {
    RankDriver driver("randomblock:ratio=0.2", shapes, communicator, "none");
    auto count = at::zeros({40}, at::kDouble);
    for (int i = 0; i < draws; ++i) {
      const auto hit = driver.step({{"x", at::ones({40})}}).at("x") != 0;
      if (hit.sum().item<std::int64_t>() != 8) throw Error("another size");
      if ((hit ^ hit.roll(1)).sum().item<std::int64_t>() != 2) throw Error("not one block");
      count += hit;
    }
    return count;
  });
  CHECK(at::equal(counts[0], counts[1]));
  CHECK(largest(counts[0] / draws - 0.2) < 4.5 * std::sqrt(0.2 * 0.8 / draws));
}

TEST_CASE("estimated thresholds send about as many as asked for", "[ranks]") {
  const Shapes shapes{{"x", {50000}}};
  for (const auto& [spec, low, high] :
       {std::tuple{"dgc:ratio=0.01", 0.7, 1.3}, std::tuple{"redsync:ratio=0.01", 1.0, 2.0},
        std::tuple{"sidco:ratio=0.01", 0.5, 2.0}}) {
    on_ranks(1, [&, spec = spec, low = low, high = high](Communicator& communicator) {
      RankDriver driver(spec, shapes, communicator, "none");
      for (std::uint64_t i = 0; i < 10; ++i) {
        const auto sent = driver.step(random_gradients(shapes, 0, i)).at("x");
        const auto count = static_cast<double>(at::count_nonzero(sent).item<std::int64_t>());
        if (count < low * 500 || count > high * 500) {
          throw Error(std::string(spec) + " sent " + std::to_string(count) + " of 500");
        }
      }
    });
  }
}
