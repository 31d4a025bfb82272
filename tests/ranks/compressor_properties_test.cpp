// What must hold for every compressor: same result on all ranks, nothing lost by error feedback, edge shapes,
// unused parameters, several dtypes, save and load.
#include <ATen/ATen.h>

#include <limits>

#include "compressors/residual.h"
#include "tests/catch.h"
#include "tests/support/rank_driver.h"

using namespace acp;

namespace {

const Shapes net{{"conv", {6, 3, 2, 2}}, {"bias", {6}},     {"fc", {20, 33}},
                 {"scalar", {}},         {"row", {1, 9}},   {"column", {7, 1}},
                 {"one", {1, 1}},        {"small", {3, 2}}, {"empty", {4, 0}}};

const std::vector<std::string> low_rank{"acpsgd:rank=3",
                                        "acpsgd:rank=3,min_rate=1,start=2",
                                        "powersgd:rank=2",
                                        "powersgd:rank=3,min_rate=0,start=1",
                                        "powersgd:rank=2,error=local,iterations=2",
                                        "powersgd:rank=2,warm_start=off,min_rate=0",
                                        "powersgd:form=rankk,rank=12",
                                        "powersgd:form=alternating,rank=2,iterations=3,min_rate=0.5",
                                        "powersgd:form=halfrankk,rank=2"};

// Beside the defaults: other exchanges, forms of the wire, hybrids.
const std::vector<std::string> sparse{"topk:exchange=tree,ratio=0.2",
                                      "topk:values=fp16,ratio=0.3,indices=bitmap",
                                      "topk:indices=plain",
                                      "globaltopk:exchange=tree",
                                      "randomk:exchange=gather,ratio=0.1",
                                      "randomk:values=fp16",
                                      "randomblock:rank=1",
                                      "threshold:value=1,indices=delta",
                                      "threshold:form=capped,value=100",
                                      "dgc:exact_below=0,ratio=0.1",
                                      "sidco:ratio=0.1,stages=2",
                                      "redsync:ratio=0.1",
                                      "adacomp:bin_size=20,c=0.5",
                                      "adacomp:bin_size=0,send=ternary",
                                      "variance:encoding=float32,alpha=1",
                                      "topk:ratio=0.1+efsignsgd",
                                      "topk:ratio=0.2+terngrad",
                                      "topk:ratio=0.1,indices=plain+qsgd:bits=4",
                                      "globaltopk:ratio=0.1+natural",
                                      "randomk:ratio=0.2+onebit",
                                      "dgc:ratio=0.2+qsgd",
                                      "adacomp:bin_size=20+efsignsgd",
                                      "adacomp:bin_size=20+terngrad"};

const std::vector<std::string> quantised{"signsgd:exchange=scatter",
                                         "signum:exchange=scatter",
                                         "efsignsgd:exchange=scatter",
                                         "efsignsgd:form=grace",
                                         "onebit:exchange=scatter",
                                         "terngrad:clip=0,exchange=scatter",
                                         "qsgd:bits=4,exchange=scatter",
                                         "qsgd:levels=255,bucket=0",
                                         "qsgd:bits=2,norm=max,rounding=nearest",
                                         "natural:mode=nine,exchange=scatter",
                                         "natural:mode=array,rounding=nearest",
                                         "cgx:min_size=0,vectors=coded,bits=3,bucket=10,exchange=scatter",
                                         "cgx:min_size=0,exchange=gather,rounding=stochastic",
                                         "atomo:rank=2,sampling=top,view=rows",
                                         "topk:ratio=0.3+efsignsgd",
                                         "randomk:ratio=0.3+qsgd:bits=4"};

// Decided by majority: +-1 whatever the gradients.
bool votes(const std::string& spec) {
  return spec.starts_with("sign");
}

// Made of a sparsifier or a quantiser.
bool is_coded(const std::string& spec) {
  const auto& keys = find_method(spec.substr(0, spec.find_first_of(":+"))).keys;
  return std::ranges::any_of(keys, [](const KeyInfo& key) { return key.name == "exchange"; });
}

std::vector<std::string> all_methods() {
  auto specs = low_rank;
  specs.insert(specs.end(), sparse.begin(), sparse.end());
  specs.insert(specs.end(), quantised.begin(), quantised.end());
  for (const auto* method : methods()) specs.push_back(method->name);
  return specs;
}

// The result of `steps` random steps: gradients of each.
std::vector<Gradients> train(RankDriver& driver, const Shapes& shapes, int rank, int steps) {
  std::vector<Gradients> results;
  for (int i = 0; i < steps; ++i)
    results.push_back(driver.step(random_gradients(shapes, rank, driver.next_step)));
  return results;
}

bool same(const Gradients& a, const Gradients& b) {
  return std::ranges::equal(
      a, b, [](const auto& x, const auto& y) { return x.first == y.first && at::equal(x.second, y.second); });
}

bool same(const State& a, const State& b) {
  return std::ranges::equal(
      a, b, [](const auto& x, const auto& y) { return x.first == y.first && same(x.second, y.second); });
}

bool finite(const Gradients& a) {
  return std::ranges::all_of(
      a, [](const auto& x) { return at::isfinite(x.second).all().template item<bool>(); });
}

double largest(const at::Tensor& x) {
  return x.numel() == 0 ? 0 : x.abs().max().item<double>();
}

at::Tensor error_of(const State& state, const std::string& name, const at::Tensor& like) {
  const auto error = find_state(state, name, "error");
  return error.defined() ? error : at::zeros_like(like);
}

}  // namespace

TEST_CASE("all ranks end every step with the same bits", "[ranks]") {
  for (const auto& spec : all_methods()) {
    for (const int size : {1, 2, 3, 4}) {
      const auto results = each_rank(size, [&](Communicator& communicator) {
        RankDriver driver(spec, net, communicator);
        return train(driver, net, communicator.rank(), 5);
      });
      CAPTURE(spec, size);
      for (const auto& result : results) {
        for (std::size_t step = 0; step < result.size(); ++step) {
          CHECK(same(result[step], results[0][step]));
          CHECK(finite(result[step]));
        }
      }
    }
  }
}

TEST_CASE("error feedback loses nothing: sent + kept = gradient + error before", "[ranks]") {
  struct Step {
    Gradients gradients, averages;
    State before, after;
  };
  auto specs = low_rank;
  specs.insert(specs.end(), {"fp16", "bf16"});
  for (const auto& spec : all_methods()) {
    const auto memories = CompressorFactory(spec, {}).memories();
    if (spec.find("form=grace") != std::string::npos) continue;  // errors are kept at another scale
    if (is_coded(spec) && std::ranges::find(memories, "residual") != memories.end()) specs.push_back(spec);
  }
  for (const auto& spec : specs) {
    for (const int size : {1, 3}) {
      const auto ranks = each_rank(size, [&](Communicator& communicator) {
        RankDriver driver(spec, net, communicator, "residual");
        std::vector<Step> steps;
        for (int i = 0; i < 5; ++i) {
          Step step{random_gradients(net, communicator.rank(), driver.next_step),
                    {},
                    driver.compressor().state(),
                    {}};
          step.averages = driver.step(step.gradients);
          step.after = driver.compressor().state();
          steps.push_back(step);
        }
        return steps;
      });
      // A 16-bit average is rounded once more on the wire: half a unit in the last of 11 or 8 bits.
      const bool half = spec == "fp16" || spec.starts_with("randomk:values=fp16");
      const double tolerance = half ? 5e-4 : spec == "bf16" ? 4e-3 : 5e-6;
      CAPTURE(spec, size);
      for (std::size_t i = 0; i < 5; ++i) {
        for (const auto& [name, shape] : net) {
          auto difference = -size * ranks[0][i].averages.at(name).to(at::kDouble);
          double scale = 1;
          for (const auto& rank : ranks) {
            const auto& gradient = rank[i].gradients.at(name);
            const auto input = gradient + error_of(rank[i].before, name, gradient);
            difference += input - error_of(rank[i].after, name, gradient);
            scale = std::max(scale, largest(input));
          }
          CAPTURE(i, name);
          CHECK(largest(difference) <= tolerance * scale * size);
        }
      }
    }
  }
}

TEST_CASE("zero gradients give zero, and the next real ones still pass", "[ranks]") {
  for (const auto& spec : all_methods()) {
    const auto results = each_rank(2, [&](Communicator& communicator) {
      RankDriver driver(spec, net, communicator);
      Gradients zeros;
      for (const auto& [name, shape] : net) zeros[name] = at::zeros(shape);
      std::vector<Gradients> steps;
      for (int i = 0; i < 4; ++i) steps.push_back(driver.step(zeros));
      for (int i = 0; i < 4; ++i) steps.push_back(driver.step(random_gradients(net, communicator.rank(), 0)));
      return steps;
    });
    CAPTURE(spec);
    for (std::size_t i = 0; i < 8; ++i) {
      CHECK(finite(results[0][i]));
      CHECK(same(results[0][i], results[1][i]));
    }
    for (std::size_t i = 0; i < 4; ++i) {
      for (const auto& [name, value] : results[0][i]) {
        CHECK((votes(spec) ? at::equal(value, at::ones_like(value)) : largest(value) == 0));
      }
    }
    CHECK(largest(results[0][7].at("fc")) > 0.01);
  }
}

TEST_CASE("a parameter that nobody used keeps error memory and factors", "[ranks]") {
  struct Result {
    State before, after;
    std::vector<std::uint8_t> used;
    Gradients averages, next;
  };
  for (auto spec : all_methods()) {
    const auto results = each_rank(3, [&](Communicator& communicator) {
      RankDriver driver(spec, net, communicator);
      train(driver, net, communicator.rank(), 3);
      auto gradients = random_gradients(net, communicator.rank(), 3);
      gradients.erase("fc");  // nobody uses these two, rank 1 alone uses conv, rank 2 lacks small
      gradients.erase("bias");
      if (communicator.rank() != 1) gradients.erase("conv");
      if (communicator.rank() == 2) gradients.erase("small");
      Result result;
      result.before = driver.compressor().state();
      result.averages = driver.step(gradients);
      result.used = driver.bucket().used;
      result.after = driver.compressor().state();
      result.next = driver.step(random_gradients(net, communicator.rank(), 4));
      return result;
    });
    CAPTURE(spec);
    for (const auto& result : results) {
      for (std::size_t k = 0; k < net.size(); ++k) {
        const auto& name = net[k].first;
        CHECK((result.used[k] != 0) == (name != "fc" && name != "bias"));
        if (name == "fc" || name == "bias") {
          const auto entry = [&](const State& state) {
            return state.contains(name) ? state.at(name) : Gradients{};
          };
          CHECK(same(entry(result.before), entry(result.after)));
        } else {
          CHECK(at::equal(result.averages.at(name), results[0].averages.at(name)));
        }
      }
      CHECK(largest(result.averages.at("conv")) > 0);
      CHECK(finite(result.next));
      CHECK(same(result.next, results[0].next));
    }
  }
}

TEST_CASE("a gradient that one rank alone has is divided by the number of ranks", "[ranks]") {
  const auto results = each_rank(2, [&](Communicator& communicator) {
    RankDriver driver("acpsgd:rank=3", net, communicator);
    Gradients gradients{{"bias", at::full({6}, communicator.rank() == 1 ? 3.0 : 1.0)}};
    if (communicator.rank() == 0) gradients.clear();
    return driver.step(gradients);
  });
  CHECK(at::equal(results[0].at("bias"), at::full({6}, 1.5)));
}

TEST_CASE("every floating dtype passes through every compressor", "[ranks]") {
  for (const auto& spec : all_methods()) {
    const auto run = [&](at::ScalarType type) {
      return each_rank(2, [&](Communicator& communicator) {
        RankDriver driver(spec, net, communicator, "", type);
        std::vector<Gradients> steps;
        for (std::uint64_t i = 0; i < 4; ++i)
          steps.push_back(driver.step(random_gradients(net, communicator.rank(), i, type)));
        return steps;
      });
    };
    const auto reference = run(at::kFloat);
    for (const auto type : {at::kDouble, at::kHalf, at::kBFloat16}) {
      const auto results = run(type);
      CAPTURE(spec, type);
      const bool rounded = type != at::kDouble || spec == "fp16" || spec == "bf16";
      const double tolerance = rounded ? 0.2 : 1e-4;  // small residuals amplify what rounding changed
      for (std::size_t i = 0; i < 4; ++i) {
        CHECK(same(results[0][i], results[1][i]));
        for (const auto& [name, value] : results[0][i]) {
          CHECK(value.scalar_type() == type);
          CAPTURE(i, name);
          // What is chosen or rounded to a few bits jumps when the input is rounded.
          if (rounded && is_coded(spec)) continue;
          CHECK(largest(value.to(at::kDouble) - reference[0][i].at(name).to(at::kDouble)) < tolerance);
        }
      }
    }
  }
}

TEST_CASE("float64 gradients keep their precision", "[ranks]") {
  const Shapes shapes{{"w", {9, 11}}, {"b", {5}}};
  const auto results = each_rank(2, [&](Communicator& communicator) {
    RankDriver dense("none", shapes, communicator, "", at::kDouble);
    RankDriver whole("powersgd:rank=9,min_rate=0", shapes, communicator, "", at::kDouble);  // rank 9: exact
    const auto gradients = random_gradients(shapes, communicator.rank(), 0, at::kDouble);
    return std::pair(dense.step(gradients), whole.step(gradients));
  });
  const auto expected = [&](const std::string& name) {
    return (random_gradients(shapes, 0, 0, at::kDouble).at(name) +
            random_gradients(shapes, 1, 0, at::kDouble).at(name)) /
           2;
  };
  for (const auto& [name, shape] : shapes) {
    CHECK(at::equal(results[0].first.at(name), expected(name)));
    CHECK(largest(results[0].second.at(name) - expected(name)) < 1e-13);
  }
}

TEST_CASE("a saved and loaded compressor goes on as if nothing had happened", "[ranks]") {
  for (const auto& spec : all_methods()) {
    const auto results = each_rank(2, [&](Communicator& communicator) {
      RankDriver first(spec, net, communicator);
      train(first, net, communicator.rank(), 3);
      RankDriver second(spec, net, communicator);
      const StepContext context{communicator.rank(), 2, 3, RankDriver::seed};
      first.compressor().prepare(first.bucket(),
                                 context);  // the engine prepares early, before the state is taken
      second.compressor().prepare(second.bucket(), context);
      second.compressor().load_state(first.compressor().state());
      second.next_step = first.next_step;
      const auto on = train(first, net, communicator.rank(), 3),
                 again = train(second, net, communicator.rank(), 3);
      bool equal = same(first.compressor().state(), second.compressor().state());
      for (std::size_t i = 0; i < on.size(); ++i) equal = equal && same(on[i], again[i]);
      return equal ? 1 : 0;
    });
    CAPTURE(spec);
    CHECK(results == std::vector<int>{1, 1});
  }
}

TEST_CASE("state moves to other buckets by name", "[ranks]") {
  for (const auto& spec : all_methods()) {
    if (CompressorFactory(spec, {}).granularity() != "layer" || spec.find("scatter") != std::string::npos)
      continue;  // chooses over the bucket that it is in, or cuts it
    const auto results = each_rank(2, [&](Communicator& communicator) {
      RankDriver whole(spec, net, communicator);
      train(whole, net, communicator.rank(), 3);
      const Shapes left{net[2], net[0]}, right(net.rbegin(), net.rbegin() + 6);
      double off = 0;
      const auto state = whole.compressor().state();
      RankDriver a(spec, left, communicator), b(spec, right, communicator);
      for (auto* part : {&a, &b}) {
        part->compressor().load_state(state);
        part->next_step = whole.next_step;
      }
      for (int i = 0; i < 3; ++i) {
        const auto all = random_gradients(net, communicator.rank(), whole.next_step);
        const auto expected = whole.step(all);
        for (auto* part : {&a, &b}) {
          Gradients own;
          for (const auto& slice : part->bucket().slices) own[slice.name] = all.at(slice.name);
          for (const auto& [name, value] : part->step(own))
            off = std::max(off, largest(value - expected.at(name)));
        }
      }
      return off;
    });
    CAPTURE(spec);
    CHECK(results[0] < 1e-5);
    CHECK(results[1] < 1e-5);
  }
}

TEST_CASE("messages have the size that the registry promises", "[ranks]") {
  const Shapes shapes{{"w", {40, 30}}, {"b", {40}}, {"conv", {8, 4, 3, 3}}};
  for (auto spec : all_methods()) {
    if (spec.find("start=") != std::string::npos) continue;
    // How many elements these send depends on the gradients.
    if (spec.starts_with("threshold") || spec.starts_with("adacomp") || spec.starts_with("variance"))
      continue;
    const CompressorFactory factory(spec, {});
    double promised = 0;
    for (const auto& [name, shape] : shapes) promised += factory.wire_bytes(shape, 4);
    const auto bytes = each_rank(2, [&](Communicator& communicator) {
      RankDriver driver(spec, shapes, communicator);
      double sum = 0;
      for (std::uint64_t i = 0; i < 2; ++i) {
        driver.step(random_gradients(shapes, communicator.rank(), i));
        for (const auto size : driver.message_bytes) sum += static_cast<double>(size) / 2;
      }
      return sum;
    });
    const double count = spec == "fp16" || spec == "bf16" ? 2 : 4;  // of missing gradients, one number
    CAPTURE(spec, bytes[0], promised);
    if (is_coded(spec)) {
      CHECK(bytes[0] >= 0.5 * promised);
      CHECK(bytes[0] <= 1.7 * promised + 32);  // sizes of messages, flags
    } else {
      CHECK(bytes[0] == promised + count);
    }
  }
}

TEST_CASE("16-bit averages: half the bytes, no overflow of the sum, infinity beyond the range", "[ranks]") {
  const Shapes shapes{{"w", {5}}};
  const auto results = each_rank(2, [&](Communicator& communicator) {
    RankDriver half("fp16", shapes, communicator, "residual"), brain("bf16", shapes, communicator);
    const Gradients gradients{{"w", at::tensor({60000.0F, 1e6F, 1.0F, -1e-3F, 1e38F})}};
    const auto first = half.step(gradients).at("w");
    const auto error = find_state(half.compressor().state(), "w", "error");
    return std::vector<at::Tensor>{first, brain.step(gradients).at("w"), error,
                                   at::scalar_tensor(half.message_bytes[0], at::kLong)};
  });
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const auto& result : results) {
    CHECK(result[0][0].item<float>() == 60000);
    CHECK(result[0][1].item<float>() == infinity);
    CHECK(result[0][2].item<float>() == 1);
    CHECK(std::abs(result[0][3].item<float>() + 1e-3F) < 1e-6F);
    CHECK(std::isfinite(result[1][4].item<float>()));
    CHECK(at::isfinite(result[2]).all().item<bool>());
    CHECK(result[3].item<std::int64_t>() == 12);
  }
}
