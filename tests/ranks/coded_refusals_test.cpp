// What coded compressors refuse: settings that would be ignored or diverge, steps that cannot go on.
#include <ATen/ATen.h>

#include <atomic>
#include <limits>

#include "comm/error.h"
#include "compressors/residual.h"
#include "fusion/engine.h"
#include "tests/catch.h"
#include "tests/support/rank_driver.h"

using namespace acp;

namespace {

std::string refusal(const std::string& spec, const CompressorOptions& options = {}) {
  try {
    const CompressorFactory factory(spec, options);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

// Two buckets of one parameter each, averaged by an engine; rank 1's second one has a NaN.
void refused_step(Communicator& communicator, const std::string& spec) {
  const CompressorFactory factory(spec, {});
  std::vector<ParameterInfo> infos(2);
  infos[0].name = "first";
  infos[1].name = "second";
  for (auto& info : infos) info.shape = {300, 40};
  Engine engine(allocate({{0}, {1}}, infos), [&](const Bucket& bucket) { return factory.make(bucket); },
                communicator, {});
  for (std::size_t b = 0; b < 2; ++b) engine.bucket(b).grads.fill_(1 + communicator.rank());
  if (communicator.rank() == 1) engine.bucket(1).grads[7] = std::numeric_limits<float>::quiet_NaN();
  engine.ready(0);
  engine.ready(1);
  engine.synchronize();
}

}  // namespace

TEST_CASE("a step is refused while another bucket is on its way", "[ranks]") {
  for (const std::string spec :
       {"cgx", "topk", "topk:exchange=tree", "efsignsgd:exchange=scatter", "qsgd", "randomk"}) {
    for (int time = 0; time < 5; ++time) {
      std::string message;
      try {
        on_ranks(3, [&](Communicator& communicator) { refused_step(communicator, spec); });
      } catch (const std::exception& error) {
        message = error.what();
      }
      CAPTURE(spec, message);
      CHECK(message.find("rank 1: the gradient of parameter \"second\"") != std::string::npos);
    }
  }
}

TEST_CASE("damaged messages are refused and name a rank, whatever the exchange", "[ranks]") {
  const Shapes shapes{{"x", {40, 40}}, {"y", {300}}};
  for (const std::string spec :
       {"topk:ratio=0.1", "topk:ratio=0.1,exchange=tree", "topk:ratio=0.1+qsgd", "qsgd:exchange=scatter",
        "qsgd", "efsignsgd:exchange=scatter", "cgx:min_size=0,vectors=coded", "terngrad:exchange=scatter",
        "atomo", "variance"}) {
    std::size_t messages = 1, hits = 0;
    for (std::size_t damaged = 0; damaged < messages; ++damaged) {
      std::string message;
      std::atomic<bool> hit{false};
      std::atomic<std::size_t> seen{0};
      try {
        on_ranks(2, [&](Communicator& communicator) {
          RankDriver driver(spec, shapes, communicator, "none");
          driver.received = [&](std::size_t number, const at::Tensor& out) {
            seen = std::max(seen.load(), number + 1);
            const bool bytes =
                out.defined() && (out.scalar_type() == at::kByte || out.scalar_type() == at::kLong);
            if (communicator.rank() != 0 || number != damaged || !bytes || out.numel() == 0) return;
            hit = true;
            out.fill_(out.scalar_type() == at::kByte ? 0xff : -1);
          };
          driver.step(random_gradients(shapes, communicator.rank(), 0));
        });
      } catch (const DataError& error) {
        message = error.what();
      }
      messages = std::max(messages, seen.load());
      CAPTURE(spec, damaged, message);
      CHECK((message.find("rank ") != std::string::npos) == hit);
      hits += hit ? 1 : 0;
    }
    CHECK(hits >= 1);
  }
}

TEST_CASE("settings that would be ignored are refused", "[unit]") {
  CHECK_THAT(refusal("topk:exchange=tree,values=fp16"), ContainsSubstring("exchange=gather"));
  CHECK_THAT(refusal("topk:exchange=tree,indices=bitmap"), ContainsSubstring("exchange=gather"));
  CHECK_THAT(refusal("topk:values=fp16+qsgd"), ContainsSubstring("values=fp16"));
  CHECK_THAT(refusal("randomk:exchange=reduce+qsgd"), ContainsSubstring("exchange=reduce"));
  CHECK_THAT(refusal("topk+qsgd:exchange=scatter"), ContainsSubstring("exchange=scatter"));
  CHECK(refusal("topk:exchange=gather+qsgd:exchange=gather").empty());
  CHECK(refusal("randomk+qsgd").empty());
}

TEST_CASE("memories that would grow without end are refused", "[unit]") {
  CHECK_THAT(refusal("randomk:unbiased=on"), ContainsSubstring("memory none"));
  CHECK_THAT(refusal("randomk:unbiased=on", {"dgc"}), ContainsSubstring("memory none"));
  CHECK(refusal("randomk:unbiased=on", {"none"}).empty());
  // Votes are +-1 whatever was sent for.
  CHECK(CompressorFactory("topk+signsgd", {}).memory() == "none");
  CHECK_THAT(refusal("topk+signsgd", {"residual"}), ContainsSubstring("memory"));
  CHECK(CompressorFactory("topk+qsgd", {}).memory() == "residual");
}

TEST_CASE("half-precision values whose sum would overflow", "[ranks]") {
  for (const std::string spec : {"randomk:ratio=1,values=fp16", "randomblock:ratio=1,values=fp16"}) {
    on_ranks(3, [&](Communicator& communicator) {
      RankDriver driver(spec, {{"x", {8}}}, communicator);
      const auto mean = driver.step({{"x", at::full({8}, 40000.0F)}}).at("x");
      if (!at::allclose(mean, at::full({8}, 40000.0F), 1e-3)) throw Error("40000 became something else");
    });
  }
}

TEST_CASE("sums that overflow are refused by name", "[ranks]") {
  for (const std::string spec :
       {"cgx:min_size=0,vectors=coded", "efsignsgd:exchange=scatter", "topk:exchange=tree"}) {
    std::string message;
    try {
      on_ranks(2, [&](Communicator& communicator) {
        RankDriver driver(spec, {{"big", {64}}}, communicator, "residual");
        driver.step({{"big", at::full({64}, 2.5e38F)}});
      });
    } catch (const std::exception& error) {
      message = error.what();
    }
    CAPTURE(spec, message);
    CHECK_THAT(message, ContainsSubstring("big") && ContainsSubstring("overflows"));
  }
}

TEST_CASE("variance: all that its messages lack stays, and absent gradients change nothing", "[ranks]") {
  const Shapes shapes{{"a", {30}}, {"b", {4, 5}}};
  for (const std::string spec : {"variance", "variance:encoding=float32,values=fp16", "variance+efsignsgd",
                                 "variance:encoding=float32+qsgd:bits=4"}) {
    for (const std::string granularity : {"layer", "bucket"}) {
      CAPTURE(spec, granularity);
      bool kept = true, still = true;
      on_ranks(1, [&](Communicator& communicator) {
        RankDriver driver(spec, shapes, communicator, "", at::kFloat, granularity);
        std::map<std::string, at::Tensor> given, sent;
        for (std::uint64_t i = 0; i < 6; ++i) {
          auto gradients = random_gradients(shapes, 0, i);
          if (i == 3) gradients.erase("b");
          const auto before = driver.compressor().state();
          const auto averages = driver.step(gradients);
          const auto after = driver.compressor().state();
          for (const auto& [name, gradient] : gradients) {
            given[name] = given.contains(name) ? given[name] + gradient : gradient;
            sent[name] = sent.contains(name) ? sent[name] + averages.at(name) : averages.at(name);
            const auto rest = find_state(after, name, "select.sum").reshape(gradient.sizes());
            kept = kept && at::allclose(sent[name] + rest, given[name], 1e-4, 1e-4);
          }
          if (i != 3) continue;
          for (const auto* kind : {"select.sum", "select.variance"}) {
            still = still && at::equal(find_state(before, "b", kind), find_state(after, "b", kind));
          }
        }
      });
      CHECK(kept);
      CHECK(still);
    }
  }
}

TEST_CASE("variance refuses what its squares cannot hold, and state of another size", "[ranks]") {
  on_ranks(1, [&](Communicator& communicator) {
    RankDriver driver("variance", {{"x", {10}}}, communicator);
    driver.step({{"x", at::ones({10})}});
    const auto before = driver.compressor().state();
    try {
      driver.step({{"x", at::full({10}, 1e20F)}});
      throw Error("taken");
    } catch (const DataError& error) {
      if (std::string(error.what()).find("\"x\"") == std::string::npos) throw;
    }
    if (!at::equal(find_state(before, "x", "select.variance"),
                   find_state(driver.compressor().state(), "x", "select.variance"))) {
      throw Error("changed");
    }
    try {
      driver.compressor().load_state({{"x", {{"select.sum", at::zeros({9})}}}});
      throw Error("loaded");
    } catch (const ConfigError& error) {
      if (std::string(error.what()).find("\"x\"") == std::string::npos) throw;
    }
  });
}
