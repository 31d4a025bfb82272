// Coded compressors as a whole: hybrids, granularity, payloads of different size, refused and corrupt input.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "comm/error.h"
#include "compressors/codec_compressor.h"
#include "compressors/residual.h"
#include "tests/catch.h"
#include "tests/support/rank_driver.h"

using namespace acp;

namespace {

// Sends what exceeds a bound: payloads differ from rank to rank, and may be empty.
class Above final : public Sparsifier {
 public:
  void select(std::span<const float> y, std::span<const float>, const Block&, Selection& chosen) override {
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (!(std::abs(y[i]) > 1)) continue;
      chosen.indices.push_back(static_cast<std::uint32_t>(i));
      chosen.values.push_back(y[i]);
    }
  }
};

// A byte a value, as multiples of 1/16 with a fixed range: simple enough to be checked by hand.
class Steps final : public Quantiser {
 public:
  explicit Steps(Combine combine) : combine_(combine) {}
  std::size_t bytes(std::int64_t n) const override { return static_cast<std::size_t>(n); }
  void encode(std::span<const float> x, const Block&, std::span<std::byte> code) override {
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float level =
          combine_ == Combine::majority ? (x[i] >= 0 ? 16.0F : -16.0F) : std::round(16 * x[i]);
      code[i] = static_cast<std::byte>(static_cast<std::int8_t>(std::clamp(level, -127.0F, 127.0F)));
    }
  }
  void decode(std::span<const std::byte> code, std::span<float> out) const override {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto level = static_cast<std::int8_t>(code[i]);
      if (level == -128) throw DataError("level -128");
      out[i] = static_cast<float>(level) / 16;
    }
  }
  Combine combine() const override { return combine_; }

 private:
  Combine combine_;
};

const Shapes net{{"a", {8, 9}}, {"b", {5}}, {"empty", {3, 0}}, {"c", {31}}, {"one", {}}};

CodecSettings settings(bool sparse, std::optional<Combine> code, const std::string& exchange, bool by_layer,
                       MemoryKind memory = MemoryKind::residual) {
  CodecSettings result;
  result.method = "test";
  if (sparse) result.sparsifier = [] { return std::make_unique<Above>(); };
  if (code) {
    result.quantiser = [kind = *code](std::span<const std::int64_t>) {
      return std::make_unique<Steps>(kind);
    };
  }
  result.exchange = exchange;
  result.by_layer = by_layer;
  result.memory = memory;
  return result;
}

// Steps of one rank's compressor; parameters that `gradients` lacks have none.
struct Driver {
  Driver(Communicator& c, CodecSettings s)
      : communicator(c), bucket(make_bucket(net)), codec(make_codec(bucket, std::move(s))) {}
  Gradients step(const Gradients& gradients) {
    bucket.grads.zero_();
    for (std::size_t k = 0; k < bucket.slices.size(); ++k) {
      const auto found = gradients.find(bucket.slices[k].name);
      bucket.used[k] = found != gradients.end();
      if (bucket.used[k] != 0) bucket.view(bucket.slices[k]).copy_(found->second.reshape(-1));
    }
    run(codec->exchange(bucket, {communicator.rank(), communicator.size(), number++, 17}), communicator);
    Gradients averages;
    for (const auto& slice : bucket.slices)
      averages[slice.name] = bucket.view(slice).view(slice.shape).clone();
    return averages;
  }
  Communicator& communicator;
  Bucket bucket;
  std::unique_ptr<Compressor> codec;
  std::uint64_t number = 0;
};

at::Tensor error_of(Compressor& codec, const std::string& name, const at::Tensor& like) {
  const auto error = find_state(codec.state(), name, "error");
  return error.defined() ? error : at::zeros_like(like);
}

double largest(const at::Tensor& x) {
  return x.numel() == 0 ? 0 : x.abs().max().item<double>();
}

Gradients some_gradients(int rank, std::uint64_t step) {
  auto gradients = random_gradients(net, rank, step);
  for (auto& [name, value] : gradients) value.mul_(rank == 1 ? 0 : 1 + rank);  // rank 1 sends nothing
  if (step == 2 && rank == 0) gradients.erase("a");
  if (step == 2) gradients.erase("c");
  if (step == 3 && rank != 2) gradients.clear();
  return gradients;
}

}  // namespace

TEST_CASE("sent + kept = gradient + kept before, for every exchange, granularity and mix", "[ranks]") {
  struct Step {
    Gradients input, average, kept;
    std::vector<std::uint8_t> used;
  };
  for (const auto& [sparse, code, exchange] :
       {std::tuple{true, false, "gather"}, std::tuple{true, true, "gather"},
        std::tuple{false, true, "gather"}, std::tuple{false, true, "scatter"},
        std::tuple{true, false, "tree"}}) {
    for (const bool by_layer : {true, false}) {
      for (const int size : {1, 2, 3, 4}) {
        const auto ranks = each_rank(size, [&](Communicator& communicator) {
          Driver driver(communicator, settings(sparse, code ? std::optional(Combine::mean) : std::nullopt,
                                               exchange, by_layer));
          std::vector<Step> steps;
          for (std::uint64_t i = 0; i < 5; ++i) {
            Step step;
            const auto gradients = some_gradients(communicator.rank(), i);
            for (const auto& [name, shape] : net) {
              step.input[name] = error_of(*driver.codec, name, at::zeros(shape)).clone();
              if (gradients.contains(name)) step.input[name] += gradients.at(name);
            }
            step.average = driver.step(gradients);
            for (const auto& [name, shape] : net)
              step.kept[name] = error_of(*driver.codec, name, at::zeros(shape));
            step.used = driver.bucket.used;
            steps.push_back(step);
          }
          return steps;
        });
        for (std::size_t i = 0; i < 5; ++i) {
          for (std::size_t k = 0; k < net.size(); ++k) {
            const auto& name = net[k].first;
            CAPTURE(sparse, code, exchange, by_layer, size, i, name);
            const bool used = ranks[0][i].used[k] != 0;
            CHECK(used == !((i == 2 && (name == "c" || (name == "a" && size == 1))) || (i == 3 && size < 3)));
            auto sum = at::zeros_like(ranks[0][i].average.at(name));
            for (const auto& rank : ranks) {
              CHECK(rank[i].used == ranks[0][i].used);
              if (used) CHECK(at::equal(rank[i].average.at(name), ranks[0][i].average.at(name)));
              sum += rank[i].input.at(name) - rank[i].kept.at(name);
            }
            if (used) CHECK(largest(sum - size * ranks[0][i].average.at(name)) < 2e-5);
            if (!used) CHECK(largest(sum) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("votes: the sign that most ranks have, +1 for a tie, by both exchanges", "[ranks]") {
  for (const std::string exchange : {"gather", "scatter"}) {
    const auto results = each_rank(3, [&](Communicator& communicator) {
      Driver driver(communicator, settings(false, Combine::majority, exchange, true, MemoryKind::none));
      const auto rank = communicator.rank();
      Gradients gradients;
      for (const auto& [name, shape] : net) gradients[name] = at::full(shape, rank == 0 ? 5.0 : -0.5);
      if (rank == 2) gradients["b"] = at::full({5}, 1.0);
      if (rank == 1) gradients.erase("c");
      return driver.step(gradients);
    });
    for (const auto& result : results) {
      CHECK(at::equal(result.at("a"), at::full({8, 9}, -1.0F)));
      CHECK(at::equal(result.at("b"), at::full({5}, 1.0F)));
      CHECK(at::equal(result.at("c"), at::full({31}, 1.0F)));
    }
  }
  const auto sparse = each_rank(2, [&](Communicator& communicator) {
    Driver driver(communicator, settings(true, Combine::majority, "gather", true, MemoryKind::none));
    auto x = at::zeros({31});
    x[communicator.rank()] = -3;
    x[7] = communicator.rank() == 0 ? 2 : -2;
    return driver.step({{"c", x}});
  });
  for (const auto& result : sparse) {
    auto expected = at::zeros({31});
    expected[0] = expected[1] = -1;
    expected[7] = 1;
    CHECK(at::equal(result.at("c"), expected));
  }
}

TEST_CASE("tree merges keep the largest sums, and what they drop", "[ranks]") {
  const Shapes shapes{{"x", {100}}};
  const auto results = each_rank(4, [&](Communicator& communicator) {
    RankDriver driver("topk:ratio=0.02,exchange=tree", shapes, communicator);
    auto x = at::zeros({100});
    x[10] = 3;
    x[20 + communicator.rank()] = 5 + communicator.rank();  // 5 6 7 8 on one rank each, 3 on all
    const auto average = driver.step({{"x", x}}).at("x");
    return std::pair(average, error_of(driver.compressor(), "x", x));
  });
  auto kept = at::zeros({100});
  for (const auto& [average, error] : results) {
    CHECK(at::equal(average, results[0].first));
    kept += error;
  }
  auto all = at::zeros({100});
  all[10] = 12;
  for (int rank = 0; rank < 4; ++rank) all[20 + rank] = 5 + rank;
  CHECK(at::allclose(kept + 4 * results[0].first, all));
  CHECK(at::count_nonzero(results[0].first).item<std::int64_t>() == 2);
}

TEST_CASE("NaN and infinity are named, and never reach the error memory", "[ranks]") {
  const Shapes shapes{{"first", {40}}, {"second", {3, 5}}};
  const float bad_values[]{std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                           -std::numeric_limits<float>::infinity()};
  for (const std::string spec : {"topk:ratio=0.2",
                                 "topk:exchange=tree",
                                 "randomk:ratio=0.2",
                                 "dgc",
                                 "variance",
                                 "threshold",
                                 "redsync",
                                 "sidco",
                                 "adacomp",
                                 "topk+qsgd:bits=4",
                                 "adacomp+efsignsgd",
                                 "efsignsgd",
                                 "efsignsgd:exchange=scatter",
                                 "onebit",
                                 "qsgd",
                                 "signum",
                                 "terngrad",
                                 "natural",
                                 "cgx:min_size=0,vectors=coded",
                                 "atomo",
                                 "acpsgd",
                                 "powersgd"}) {
    for (const float bad : bad_values) {
      std::string message;
      bool untouched = true;
      try {
        on_ranks(2, [&](Communicator& communicator) {
          RankDriver driver(spec, shapes, communicator);
          for (std::uint64_t i = 0; i < 2; ++i) {
            auto gradients = random_gradients(shapes, communicator.rank(), i);
            const bool refused = communicator.rank() == 1 && i == 1;
            if (refused) gradients.at("second").view(-1)[7] = bad;
            const auto before = driver.compressor().state();
            try {
              driver.step(gradients);
            } catch (const DataError&) {
              for (const auto& [name, kinds] : before) {
                for (const auto& [kind, value] : kinds) {
                  const auto now = find_state(driver.compressor().state(), name, kind);
                  untouched = untouched && (kind == "p" || kind == "q" || at::equal(value, now));
                }
              }
              throw;
            }
          }
        });
      } catch (const std::exception& error) {
        message = error.what();
      }
      CAPTURE(spec, bad, message);
      CHECK(message.find("rank 1: the gradient of parameter \"second\"") != std::string::npos);
      // ACP-SGD's memory takes the gradient in the pass that shows it; the engine that fails then shows it to
      // nobody.
      if (spec != std::string("acpsgd")) CHECK(untouched);
    }
  }
}

TEST_CASE("what overflows with its error memory is refused", "[ranks]") {
  const Shapes shapes{{"x", {10}}};
  on_ranks(1, [&](Communicator& communicator) {
    RankDriver driver("topk:ratio=0.1", shapes, communicator);
    auto x = at::zeros({10});
    x[0] = 3e38;
    x[1] = 2.9e38;
    driver.step({{"x", x}});  // keeps x[1]
    try {
      driver.step({{"x", x}});
    } catch (const DataError&) {
      return;
    }
    throw Error("infinity was taken into the error memory");
  });
}

TEST_CASE("a corrupt payload is refused with the rank that sent it", "[ranks]") {
  const auto check = [&](bool sparse, bool code, std::size_t length, auto damage) {
    auto bucket = make_bucket(net);
    const auto codec = make_codec(
        bucket, settings(sparse, code ? std::optional(Combine::mean) : std::nullopt, "gather", true));
    for (const auto& slice : bucket.slices) bucket.view(slice).fill_(2.0);
    auto exchange = codec->exchange(bucket, {0, 1, 0, 17});
    auto op = exchange.advance();
    if (sparse) {
      op->out.copy_(op->in);
      op = exchange.advance();
    }
    op->out.copy_(op->in);
    REQUIRE(op->out.numel() > static_cast<std::int64_t>(length));
    damage(op->out);
    CHECK_THROWS_WITH(exchange.advance(), ContainsSubstring("payload of rank 0"));
  };
  check(true, false, 1, [](const at::Tensor& payload) { payload[0] = 9; });
  check(true, false, 3, [](const at::Tensor& payload) { payload[1] = 77; });
  check(true, true, 3, [](const at::Tensor& payload) { payload[payload.numel() - 1] = 128; });
  check(false, true, 3, [](const at::Tensor& payload) { payload[payload.numel() - 1] = 128; });
  check(false, true, 3, [](const at::Tensor& payload) { payload[0] = 2; });
}

TEST_CASE("levels of policies: ratio per parameter, empty is plain", "[ranks]") {
  const Shapes shapes{{"x", {100}}, {"y", {100}}};
  const auto results = each_rank(2, [&](Communicator& communicator) {
    RankDriver driver("topk:ratio=0.5", shapes, communicator);
    driver.compressor().set_levels(std::vector<Level>{0.05, std::nullopt});
    const auto gradients = random_gradients(shapes, 0, 0);
    return driver.step(gradients);
  });
  const auto gradients = random_gradients(shapes, 0, 0);
  CHECK(at::count_nonzero(results[0].at("x")).item<std::int64_t>() == 5);
  CHECK(at::allclose(results[0].at("y"), gradients.at("y")));
  on_ranks(1, [&](Communicator& communicator) {
    RankDriver driver("topk", shapes, communicator, "", at::kFloat, "bucket");
    try {
      driver.compressor().set_levels(std::vector<Level>{0.05, 0.1});
    } catch (const ConfigError&) {
      driver.compressor().set_levels(std::vector<Level>{0.1, 0.1});
      return;
    }
    throw Error("unlike levels for one block were accepted");
  });
}

TEST_CASE("granularity bucket chooses over all parameters, by default and by option", "[ranks]") {
  const Shapes shapes{{"small", {50}}, {"large", {50}}};
  const auto kept = [&](const std::string& spec, const std::string& granularity) {
    std::vector<std::int64_t> counts;
    on_ranks(1, [&](Communicator& communicator) {
      RankDriver driver(spec, shapes, communicator, "none", at::kFloat, granularity);
      auto gradients = random_gradients(shapes, 0, 0);
      gradients.at("large").mul_(1000);
      for (const auto& [name, value] : driver.step(gradients))
        counts.push_back(at::count_nonzero(value).item<std::int64_t>());
    });
    return counts;  // of "large", "small"
  };
  using Counts = std::vector<std::int64_t>;
  CHECK(kept("topk:ratio=0.1", "") == Counts{5, 5});
  CHECK(kept("topk:ratio=0.1", "bucket") == Counts{10, 0});
  CHECK(kept("topk:ratio=0.1", "model") == Counts{10, 0});
  CHECK(kept("globaltopk:ratio=0.1", "") == Counts{10, 0});
  CHECK(kept("globaltopk:ratio=0.1", "layer") == Counts{5, 5});
  CHECK_THROWS_WITH(CompressorFactory("topk", {.granularity = "rows"}),
                    ContainsSubstring("unknown granularity"));
  CHECK_THROWS_WITH(CompressorFactory("acpsgd", {.granularity = "model"}), ContainsSubstring("known: layer"));
  CHECK(CompressorFactory("acpsgd", {.granularity = "layer"}).granularity() == "layer");
  CHECK(CompressorFactory("globaltopk", {}).granularity() == "model");
}

TEST_CASE("random-k: every element equally often, the same ones on all ranks, unbiased by option",
          "[ranks]") {
  const Shapes shapes{{"x", {64}}};
  constexpr int draws = 10000;
  for (const std::string form : {"distinct", "replace"}) {
    const auto sums = each_rank(2, [&](Communicator& communicator) {
      RankDriver driver("randomk:ratio=0.125,unbiased=on,draw=" + form, shapes, communicator, "none");
      const auto x = at::arange(1, 65, at::kFloat);
      auto sum = at::zeros({64}, at::kDouble), squares = at::zeros({64}, at::kDouble);
      for (int i = 0; i < draws; ++i) {
        const auto got = driver.step({{"x", x}}).at("x").to(at::kDouble);
        sum += got;
        squares += got * got;
      }
      return std::pair(sum, squares);
    });
    const double p = form == "distinct" ? 0.125 : 1 - std::pow(1 - 1.0 / 64, 8);
    const auto x = at::arange(1, 65, at::kDouble);
    const auto variance = x * x * (1 / p - 1);
    const auto mean = sums[0].first / draws;
    CAPTURE(form);
    CHECK(largest((mean - x) / (variance / draws).sqrt()) < 4);
    const auto empirical = sums[0].second / draws - mean * mean;
    CHECK(std::abs((empirical.sum() / variance.sum()).item<double>() - 1) < 0.05);
    CHECK(at::equal(sums[0].first, sums[1].first));
  }
}
