// See device_runs.h.
#include "tests/support/device_runs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "comm/error.h"
#include "tests/catch.h"
#include "tests/support/golden_lowrank.h"

namespace acp {
namespace {

struct Run {
  std::vector<Gradients> steps;
  State state;
  std::vector<std::vector<std::uint8_t>> used;
};

// In step 2 rank 1 has no gradient of "b", in step 3 nobody has one of "a".
std::vector<Run> run(const std::string& spec, int ranks, const std::string& memory, at::ScalarType type,
                     const std::string& granularity) {
  return each_rank(ranks, [&](Communicator& communicator) {
    Run result;
    RankDriver driver(spec, device_net, communicator, memory, type, granularity);
    for (std::uint64_t step = 0; step < 6; ++step) {
      auto gradients = random_gradients(device_net, communicator.rank(), step, type);
      if (step == 2 && communicator.rank() == 1) gradients.erase("b");
      if (step == 3) gradients.erase("a");
      result.steps.push_back(driver.step(gradients));
      result.used.push_back(driver.bucket().used);
      if (step == 3) result.steps.back().erase("a");  // has no meaning then
    }
    result.state = driver.state();
    return result;
  });
}

}  // namespace

double device_distance(const at::Tensor& a, const at::Tensor& b, double least) {
  if (a.numel() == 0) return 0;
  const auto wide = b.to(at::kDouble);
  const double largest = std::max(least, wide.abs().max().item<double>());
  return (a.to(at::kDouble) - wide).abs().max().item<double>() / (largest > 0 ? largest : 1);
}

void compare_with_cpu(const UseDevice& use, const std::string& spec, int ranks, double tolerance,
                      const std::string& memory, at::ScalarType type, const std::string& granularity) {
  const auto cpu = run(spec, ranks, memory, type, granularity);
  std::vector<Run> other;
  {
    const auto device = use();
    other = run(spec, ranks, memory, type, granularity);
  }
  INFO(spec << " on " << ranks << " ranks, memory " << memory << ", type " << type);
  for (std::size_t rank = 0; rank < other.size(); ++rank) {
    for (std::size_t step = 0; step < other[rank].steps.size(); ++step) {
      for (const auto& [name, gradient] : cpu[rank].steps[step]) {
        INFO("rank " << rank << ", step " << step << ", " << name);
        CHECK(device_distance(other[rank].steps[step].at(name), gradient) <= tolerance);
        CHECK(other[rank].steps[step].at(name).equal(other[0].steps[step].at(name)));
      }
      CHECK(other[rank].used[step] == cpu[rank].used[step]);
    }
    REQUIRE(other[rank].state.size() == cpu[rank].state.size());
    for (const auto& [name, kinds] : cpu[rank].state) {
      for (const auto& [kind, tensor] : kinds) {
        INFO("rank " << rank << ", state " << kind << " of " << name);
        // Errors that are nothing but rounding are compared with the gradients' size.
        CHECK(device_distance(other[rank].state.at(name).at(kind), tensor, 0.1) <= 10 * tolerance);
      }
    }
  }
}

void compare_selections_and_codes(const UseDevice& use) {
  for (const std::string spec :
       {"topk:ratio=0.05", "signsgd", "qsgd", "qsgd:bits=4,norm=max", "cgx:min_size=1,bucket=64",
        "cgx:exchange=gather,bits=8", "cgx:rounding=stochastic,vectors=coded,min_size=0",
        "qsgd:exchange=scatter,bits=4"}) {
    for (const int ranks : {1, 3}) compare_with_cpu(use, spec, ranks, 0);
  }
  for (const std::string spec :
       {"topk:ratio=0.05", "qsgd:bits=4", "cgx:min_size=1,bits=8", "qsgd:exchange=scatter"}) {
    compare_with_cpu(use, spec, 2, 0, "residual");
    compare_with_cpu(use, spec, 2, 0, "none");
  }
  compare_with_cpu(use, "globaltopk:ratio=0.02", 3, 0);
  compare_with_cpu(use, "topk:ratio=0.02", 2, 0, "residual", at::kHalf);
  compare_with_cpu(use, "qsgd:bits=8", 2, 0, "none", at::kBFloat16);
}

void compare_signs_with_scales(const UseDevice& use) {
  for (const std::string spec : {"efsignsgd", "onebit"}) {
    for (const int ranks : {1, 3}) compare_with_cpu(use, spec, ranks, 1e-6);
  }
  compare_with_cpu(use, "efsignsgd:exchange=scatter", 3, 1e-6);
}

void compare_low_rank(const UseDevice& use) {
  for (const std::string spec :
       {"acpsgd:rank=4", "acpsgd:rank=20", "acpsgd:rank=2,start=2", "powersgd:rank=3,min_rate=0",
        "powersgd:form=alternating,rank=2,iterations=2", "powersgd:rank=2,warm_start=off"}) {
    for (const int ranks : {1, 3}) compare_with_cpu(use, spec, ranks, 5e-5);
  }
  compare_with_cpu(use, "acpsgd:rank=4", 2, 5e-5, "none");
  compare_with_cpu(use, "acpsgd:rank=4", 2, 1e-2, "residual", at::kHalf);
  compare_with_cpu(use, "acpsgd:rank=4", 2, 1e-10, "residual", at::kDouble);
}

void compare_others(const UseDevice& use) {
  for (const std::string spec :
       {"topk+efsignsgd", "terngrad", "natural", "randomk", "topk:ratio=0.1,values=fp16",
        "topk:ratio=0.1,exchange=tree", "efsignsgd:form=grace", "signum", "dgc", "none"}) {
    compare_with_cpu(use, spec, 2, 0);
  }
}

void replay_low_rank(const UseDevice& use) {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto device = use();
  for (const std::string set : {"acpsgd", "powersgd_ddp", "powersgd_epfml", "powersgd_paper"}) {
    for (const auto& path : golden::cases(*folder / set)) {
      std::vector<std::string> findings(static_cast<std::size_t>(golden::world_size(path)));
      on_ranks(golden::world_size(path), [&](Communicator& communicator) {
        findings[static_cast<std::size_t>(communicator.rank())] = golden::check(path, communicator, true);
      });
      CAPTURE(path.filename().string());
      for (const auto& finding : findings) CHECK(finding == "");
    }
  }
}

void refuse_what_is_not_finite(const UseDevice& use) {
  const auto device = use();
  for (const std::string spec : {"acpsgd:rank=2", "powersgd:rank=2,min_rate=0", "acpsgd:rank=2,start=5",
                                 "topk:ratio=0.1", "qsgd:bits=4", "cgx:min_size=1", "efsignsgd"}) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      const auto messages = each_rank(2, [&](Communicator& communicator) -> std::string {
        RankDriver driver(spec, device_net, communicator);
        driver.step(random_gradients(device_net, communicator.rank(), 0));
        auto gradients = random_gradients(device_net, communicator.rank(), 1);
        if (communicator.rank() == 1) gradients["a"].view(-1)[17] = bad;
        try {
          driver.step(gradients);
        } catch (const DataError& error) {
          return error.what();
        }
        return "";
      });
      INFO(spec);
      CHECK_THAT(messages[0], ContainsSubstring("NaN or infinite values"));
      CHECK_THAT(messages[1], ContainsSubstring("rank 1") && ContainsSubstring("\"a\"") &&
                                  ContainsSubstring("NaN or infinite values"));
    }
  }
}

}  // namespace acp
