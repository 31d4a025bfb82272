// Sparsifiers against the recorded numbers of the published implementations.
#include "tests/support/golden_sparse.h"

#include <bit>
#include <cmath>
#include <numeric>

#include "compressors/kernels/moments.h"
#include "compressors/kernels/select.h"
#include "compressors/memory.h"
#include "compressors/residual.h"
#include "compressors/sparse_wire.h"
#include "compressors/threshold_search.h"
#include "compressors/variance.h"
#include "tests/catch.h"
#include "tests/support/rank_driver.h"

using namespace acp;
using golden::floats;
using golden::integers;
using golden::Json;
using golden::places;
using golden::tensor;

namespace {

bool near(double a, double b, double relative = 1e-5, double absolute = 1e-9) {
  return std::abs(a - b) <= relative * std::max(std::abs(a), std::abs(b)) + absolute;
}

double length(const at::Tensor& x) {
  return x.defined() ? x.to(at::kDouble).norm().item<double>() : 0;
}

at::Tensor error_of(RankDriver& driver, const std::string& name = "x") {
  return find_state(driver.compressor().state(), name, "error");
}

// One rank alone: what it sends is the average.
struct Alone {
  Alone(const std::string& spec, std::int64_t n, const std::string& memory) {
    shapes = {{"x", {n}}};
    this->spec = spec;
    this->memory = memory;
  }
  template <class Body>
  void run(const Body& body) const {
    on_ranks(1, [&](Communicator& communicator) {
      RankDriver driver(spec, shapes, communicator, memory);
      body(driver);
    });
  }
  Shapes shapes;
  std::string spec, memory;
};

at::Tensor once(const std::string& spec, const at::Tensor& x, const std::string& memory = "none") {
  at::Tensor result;
  Alone(spec, x.numel(), memory).run([&](RankDriver& driver) { result = driver.step({{"x", x}}).at("x"); });
  return result;
}

std::string key(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

// Indices (all, or the first and their sum), values and what is left, as the adaptive cases record them.
void check_record(const Json& record, const at::Tensor& sent, const at::Tensor& error) {
  const auto indices = places(sent);
  if (record.contains("idx_head")) {
    auto head = integers(record.at("idx_head"));
    head.resize(std::min(head.size(), indices.size()));
    CHECK(std::vector<std::int64_t>(indices.begin(), indices.begin() + std::ssize(head)) == head);
    CHECK(std::accumulate(indices.begin(), indices.end(), std::int64_t{0}) ==
          record.at("idx_sum").get<std::int64_t>());
    CHECK(near(sent.to(at::kDouble).sum().item<double>(), record.at("val_sum").get<double>(), 1e-5, 1e-6));
  } else {
    CHECK(indices == integers(record.at("idx")));
    if (record.contains("val")) {
      CHECK(at::allclose(sent.index({at::tensor(indices, at::kLong)}), tensor(record.at("val")), 1e-6, 0));
    }
  }
  for (const auto* name : {"residual_l2", "residue_l2"}) {
    if (record.contains(name)) CHECK(near(length(error), record.at(name).get<double>(), 1e-5, 1e-7));
  }
}

const std::vector<std::string> distributions{"heavy", "normal", "laplace"};

// Base vectors of the gravac-compressors cases by name.
std::map<std::string, at::Tensor> bases(const Json& record, const std::filesystem::path& folder) {
  std::map<std::string, at::Tensor> result;
  for (const auto& name : distributions) result[name] = tensor(record.at("inputs").at(name), folder);
  return result;
}

}  // namespace

TEST_CASE("top-k sends the recorded elements", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  for (const auto* ratio : {"0.001", "0.1", "0.3"}) {
    const auto record = golden::read_json(*root / "compressors" / ("topk_" + std::string(ratio) + ".json"));
    const auto sent = once("topk:ratio=" + std::string(ratio), tensor(record.at("input")));
    CHECK(places(sent) == integers(record.at("indices_sorted")));
    CHECK(at::equal(sent, tensor(record.at("decoded"))));
  }
  const auto folder = *root / "gravac-compressors/topk";
  const auto record = golden::read_json(folder / "case.json");
  const auto base = bases(record, folder);
  for (const auto& run : record.at("outputs").at("runs")) {
    const auto& x = base.at(run.at("input").get<std::string>());
    Alone("topk:ratio=" + key(run.at("ratio").get<double>()), x.numel(), "residual")
        .run([&](RankDriver& driver) {
          std::int64_t step = 0;
          for (const auto& expected : run.at("steps")) {
            const auto sent = driver.step({{"x", x.roll(7 * step++)}}).at("x");
            CHECK(std::ssize(places(sent)) == expected.at("k").get<std::int64_t>());
            check_record(expected, sent, error_of(driver));
          }
        });
  }
  const auto plain = golden::read_json(*root / "hybrid/topk_only_r0.1/case.json");
  Alone("topk:ratio=0.1", 181, "residual").run([&](RankDriver& driver) {
    for (std::size_t i = 0; i < 5; ++i) {
      const auto sent = driver.step({{"x", tensor(plain.at("inputs").at("gradients").at(i))}}).at("x");
      check_record(plain.at("outputs").at("steps").at(i), sent, error_of(driver));
    }
    CHECK(at::allclose(error_of(driver), tensor(plain.at("outputs").at("final_residual")), 0, 1e-7));
  });
}

TEST_CASE("top-k of two ranks gives the recorded averages and errors", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto record = golden::read_json(*root / "compressors/topk_residual_w2.json");
  const auto findings = each_rank(2, [&](Communicator& communicator) {
    const auto rank = static_cast<std::size_t>(communicator.rank());
    RankDriver driver("topk:ratio=0.1", {{"x", {60}}}, communicator);
    double off = 0;
    for (const auto& step : record.at("steps")) {
      const auto average = driver.step({{"x", tensor(step.at("inputs").at(rank))}}).at("x");
      off = std::max(off, (average - tensor(step.at("aggregated"))).abs().max().item<double>());
      off =
          std::max(off, (error_of(driver) - tensor(step.at("residual").at(rank))).abs().max().item<double>());
    }
    return off;
  });
  for (const auto off : findings) CHECK(off <= 1e-6);
}

TEST_CASE("the paper's top-k and global top-k give the recorded averages and errors", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const Shapes shapes{
      {"w1", {64, 32}}, {"b1", {16}}, {"conv", {16, 3, 3, 3}}, {"w2", {10, 50}}, {"w3", {4, 3}}};
  const auto inputs = golden::read_floats(*root / "lowrank_inputs/grads.bin");
  constexpr std::int64_t all = 3008;
  for (const auto& [name, spec, granularity] :
       {std::tuple{"TopKReducer", "topk:ratio=0.05", "layer"},
        std::tuple{"GlobalTopKReducer", "globaltopk:ratio=0.05", ""},
        std::tuple{"RandomSparseBlockReducer", "randomblock:rank=1", "layer"}}) {
    const auto folder = *root / "paper_reducers" / name;
    const auto averages = golden::read_floats(folder / "grad_avg.bin"),
               errors = golden::read_floats(folder / "error.bin");
    const bool random = std::string(name).starts_with("Random");
    const auto findings = each_rank(2, [&](Communicator& communicator) {
      RankDriver driver(spec, shapes, communicator, "residual", at::kFloat, granularity);
      double off = 0;
      for (std::int64_t step = 0; step < 2; ++step) {
        Gradients gradients;
        auto from = (step * 4 + communicator.rank()) * all;
        for (const auto& [parameter, shape] : shapes) {
          gradients[parameter] =
              at::tensor(at::ArrayRef<float>(inputs.data() + from, static_cast<std::size_t>(numel(shape))))
                  .view(shape);
          from += numel(shape);
        }
        const auto got = driver.step(gradients);
        auto at_average = step * all, at_error = (step * 2 + communicator.rank()) * all;
        for (const auto& [parameter, shape] : shapes) {
          const auto n = numel(shape);
          const auto expected =
              at::tensor(at::ArrayRef<float>(averages.data() + at_average, static_cast<std::size_t>(n)));
          const auto error =
              at::tensor(at::ArrayRef<float>(errors.data() + at_error, static_cast<std::size_t>(n)));
          at_average += n;
          at_error += n;
          const auto mine = got.at(parameter).reshape(-1);
          if (random) {  // other places, as many of them; before the first error all values come from the
                         // inputs
            off = std::max(off, std::abs(static_cast<double>(places(mine).size()) -
                                         static_cast<double>(places(expected).size())));
            continue;
          }
          off = std::max(off, (mine - expected).abs().max().item<double>());
          off = std::max(off, (error_of(driver, parameter).reshape(-1) - error).abs().max().item<double>());
        }
      }
      return off;
    });
    CAPTURE(name);
    for (const auto off : findings) CHECK(off <= 1e-6);
  }
}

TEST_CASE("thresholds send the recorded elements", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  for (const auto* value : {"0.01", "0.5", "100.0"}) {
    const auto record =
        golden::read_json(*root / "compressors" / ("threshold_" + std::string(value) + ".json"));
    const auto sent = once("threshold:form=signed,value=" + std::string(value), tensor(record.at("input")));
    CHECK(at::equal(sent, tensor(record.at("decoded"))));
  }
  const auto record = golden::read_json(*root / "legacy-compressors/topk_threshold/case.json");
  const auto dense = tensor(record.at("inputs").at("dense"));
  auto tied = dense.clone(), zeros = dense.clone();
  tied.narrow(0, 100, 100).fill_(floats(record.at("inputs").at("tied_overrides").at("value")).at(0));
  zeros.narrow(0, 0, 600).zero_();
  const std::map<std::string, at::Tensor> inputs{{"dense", dense}, {"tied", tied}, {"zeros", zeros}};
  for (const auto& expected : record.at("outputs").at("topk")) {
    const double ratio = std::stod(expected.at("pct").get<std::string>()) / 100;
    std::ostringstream spec;
    spec << std::setprecision(17) << "threshold:form=kthvalue,ratio=" << ratio;
    const auto sent = once(spec.str(), inputs.at(expected.at("input").get<std::string>()));
    CAPTURE(spec.str(), expected.at("input").get<std::string>());
    CHECK(std::ssize(places(sent)) == expected.at("nonzero").get<std::int64_t>());
    CHECK(near(sent.abs().to(at::kDouble).sum().item<double>(), expected.at("sum_abs").get<double>(), 1e-6));
    if (!expected.at("nonzero_idx").is_null()) CHECK(places(sent) == integers(expected.at("nonzero_idx")));
  }
  for (const auto& expected : record.at("outputs").at("threshold")) {
    const auto sent = once("threshold:value=" + expected.at("option").get<std::string>(), dense);
    CHECK(std::ssize(places(sent)) == expected.at("nonzero").get<std::int64_t>());
    CHECK(near(sent.abs().to(at::kDouble).sum().item<double>(), expected.at("sum_abs").get<double>(), 1e-6));
  }
  for (const auto& expected : record.at("outputs").at("randomk_counts")) {
    std::ostringstream spec;
    spec << std::setprecision(17)
         << "randomk:rounding=up,ratio=" << std::stod(expected.at("pct").get<std::string>()) / 100;
    const auto sent = once(spec.str(), at::ones({expected.at("n").get<std::int64_t>()}));
    CHECK(std::ssize(places(sent)) == expected.at("count_min").get<std::int64_t>());
  }
  const auto unbiased = golden::read_json(*root / "layerwise/unbiased_quantisers/case.json");
  CHECK(places(once("threshold:form=half", tensor(unbiased.at("inputs").at("y")))) ==
        integers(unbiased.at("outputs").at("adaptive_threshold_idx_on_y")));
}

TEST_CASE("top-k by cost (CAT) keeps the recorded number of elements", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto record = golden::read_json(*root / "legacy-compressors/cat/case.json");
  const auto x = tensor(record.at("inputs").at("x"));
  for (const auto& run : record.at("outputs").at("runs")) {
    const auto input = run.at("input").get<std::string>();
    const auto n = input == "all" ? x.numel() : std::stoll(input.substr(5));
    const auto spec = "topk:count=cat,c0=" + key(run.at("c0").get<double>()) +
                      ",c1=" + key(run.at("c1").get<double>()) +
                      ",packet=" + key(run.at("Pmax").get<double>());
    CAPTURE(spec, input);
    CHECK(std::ssize(places(once(spec, x.narrow(0, 0, n)))) == run.at("T").get<std::int64_t>());
  }
}

TEST_CASE("layer-wise, entire-model and hard-threshold selection as recorded", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto record = golden::read_json(*root / "layerwise/rethink_reducers/case.json");
  Shapes shapes;
  Gradients gradients;
  for (const auto& layer : record.at("inputs").at("grads")) {
    const auto name = "layer" + std::to_string(shapes.size());
    gradients[name] = tensor(layer);
    shapes.emplace_back(name, std::vector<std::int64_t>{gradients[name].numel()});
  }
  for (const auto& run : record.at("outputs").at("runs")) {
    const auto reducer = run.at("reducer").get<std::string>();
    std::ostringstream spec;
    spec << std::setprecision(17);
    if (reducer == "hard_threshold") {
      spec << "threshold:value=" << run.at("params").at("thresh").get<double>();
    } else {
      spec << (reducer == "entire_topk" ? "globaltopk" : "topk")
           << ":ratio=" << run.at("params").at("compression").get<double>();
    }
    on_ranks(1, [&](Communicator& communicator) {
      RankDriver driver(spec.str(), shapes, communicator, "residual");
      const auto sent = driver.step(gradients);
      for (std::size_t k = 0; k < shapes.size(); ++k) {
        CHECK(places(sent.at(shapes[k].first)) == integers(run.at("positions").at(k)));
        CHECK(near(length(error_of(driver, shapes[k].first)), run.at("memory_l2").at(k).get<double>(), 1e-5));
      }
    });
  }
}

TEST_CASE("top-k of the survivors of a coarser top-k is top-k itself, as recorded", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto folder = *root / "gravac-multilevel/nested_topk";
  const auto record = golden::read_json(folder / "case.json");
  const auto x = floats(record.at("inputs").at("x"), folder);
  std::vector<std::uint32_t> coarse(x.size());
  std::iota(coarse.begin(), coarse.end(), 0U);
  std::vector<float> survivors = x;
  for (const auto& level : record.at("outputs").at("levels")) {
    std::vector<std::uint32_t> among, nested, direct;
    std::vector<float> values, unused;
    const auto k = level.at("k").get<std::size_t>();
    kernels::top_k(survivors, k, among, values);
    for (const auto i : among) nested.push_back(coarse[i]);
    kernels::top_k(x, k, direct, unused);
    CHECK(nested == direct);
    auto head = integers(level.at("idx"));
    head.resize(std::min(head.size(), nested.size()));
    CHECK(std::equal(head.begin(), head.end(), nested.begin()));
    CHECK(std::accumulate(nested.begin(), nested.end(), std::int64_t{0}) ==
          level.at("idx_sum").get<std::int64_t>());
    CHECK(near(std::sqrt(kernels::sum_sq(values)), level.at("norm").get<double>(), 1e-6));
    coarse = nested;
    survivors = values;
  }
}

TEST_CASE("the kthvalue rule with a ratio per size sends what the published layer loop sent",
          "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto record = golden::read_json(*root / "legacy-compressors/reported_percentage_and_ef/case.json");
  const auto& steps = record.at("outputs").at("memory0");
  for (std::size_t i = 0; i < steps.size(); ++i) {
    for (const std::size_t layer : {0U, 1U}) {  // of 40 and 300 elements: 10 % and 2 %
      const auto x = tensor(record.at("inputs").at("gradients").at(i).at(layer));
      const auto sent =
          once(layer == 0 ? "threshold:form=kthvalue,ratio=0.1" : "threshold:form=kthvalue,ratio=0.02", x);
      const auto& expected = steps.at(i).at("sent").at(layer);
      CHECK(places(sent) == integers(expected.at("idx")));
      CHECK(at::equal(sent.index({at::tensor(places(sent), at::kLong)}), tensor(expected.at("val"))));
    }
  }
}
