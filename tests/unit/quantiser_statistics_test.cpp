// Means and variances of the stochastic quantisers, against analytic ones.
#include <ATen/ATen.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/support/coder.h"
#include "tests/support/golden_json.h"

using namespace acp;

namespace {

struct Statistics {
  std::vector<double> mean, variance;
};

Statistics draw(Coder& coder, const std::vector<float>& x, std::size_t draws) {
  Statistics result{std::vector<double>(x.size(), 0), std::vector<double>(x.size(), 0)};
  for (std::size_t i = 0; i < draws; ++i) {
    coder.step.step = i;
    const auto decoded = coder.round_trip(x);
    for (std::size_t j = 0; j < x.size(); ++j) {
      const double off = static_cast<double>(decoded[j]) - static_cast<double>(x[j]);
      result.mean[j] += off / static_cast<double>(draws);
      result.variance[j] += off * off / static_cast<double>(draws);
    }
  }
  for (std::size_t j = 0; j < x.size(); ++j) {
    result.variance[j] -= result.mean[j] * result.mean[j];
    result.mean[j] += static_cast<double>(x[j]);
  }
  return result;
}

// Four standard errors for each of some hundred elements; the sum of the variances within 3 %.
void check(const Statistics& got, const std::vector<double>& mean, const std::vector<double>& variance,
           std::size_t draws) {
  double worst = 0, sum = 0, expected = 0;
  for (std::size_t j = 0; j < mean.size(); ++j) {
    const double room =
        4 * std::sqrt(variance[j] / static_cast<double>(draws)) + 1e-6 * std::abs(mean[j]) + 1e-9;
    worst = std::max(worst, std::abs(got.mean[j] - mean[j]) / room);
    sum += got.variance[j];
    expected += variance[j];
  }
  CHECK(worst <= 1);
  CHECK(sum == Approx(expected).epsilon(0.03));
}

constexpr std::size_t many = 10000;

}  // namespace

TEST_CASE("stochastic quantisers have the recorded analytic moments", "[unit]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const std::pair<const char*, const char*> cases[] = {{"qsgd_q127_b128", "qsgd"},
                                                       {"qsgd_q4_b64", "qsgd:levels=4,bucket=64"},
                                                       {"terngrad", "terngrad"},
                                                       {"natural_stats", "natural"},
                                                       {"natural_stats", "natural:mode=array"},
                                                       {"natural_stats", "natural:mode=nine"}};
  for (const auto& [file, spec] : cases) {
    CAPTURE(file, spec);
    const auto golden = golden::json_file(*folder / "compressors" / (std::string(file) + ".json"));
    const auto x = golden.at("input").get<std::vector<float>>();
    Coder coder(spec);
    check(draw(coder, x, many), golden.at("mean_analytic").get<std::vector<double>>(),
          golden.at("var_analytic").get<std::vector<double>>(), many);
  }
}

TEST_CASE("ternary values: scale, clipped mean, variance |x| (s - |x|)", "[unit]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto golden = golden::json_file(*folder / "hybrid" / "terngrad_statistics" / "case.json");
  const auto x = golden.at("inputs").at("x").get<std::vector<float>>();
  for (const std::string clip : {"2.5", "17.1"}) {
    CAPTURE(clip);
    const auto& expected = golden.at("outputs").at("clip" + clip);
    const double scale = expected.at("scale").get<double>();
    const auto clipped = expected.at("clipped").get<std::vector<double>>();
    std::vector<double> variance;
    for (const double value : clipped) variance.push_back(std::abs(value) * (scale - std::abs(value)));
    Coder coder("terngrad:clip=" + clip);
    const auto largest = coder.round_trip(x);
    const auto top = std::ranges::max(largest, {}, [](float value) { return std::abs(value); });
    CHECK(static_cast<double>(std::abs(top)) == Approx(scale).epsilon(1e-6));
    check(draw(coder, x, many), clipped, variance, many);
  }
}

TEST_CASE("max-min levels rounded at random: mean x, variance unit^2 f (1 - f)", "[unit]") {
  std::vector<float> x(100);
  Philox(3, "x", 0, Purpose::data).fill_normal(std::span(x));
  for (const int bits : {1, 2, 4}) {
    std::vector<double> mean, variance;
    for (std::size_t from = 0; from < x.size(); from += 64) {
      const auto part = std::span(x).subspan(from, std::min<std::size_t>(64, x.size() - from));
      const auto [least, most] = std::ranges::minmax(part);
      const double unit = static_cast<double>(most - least) / ((1 << bits) - 1);
      for (const float value : part) {
        const double level = static_cast<double>(value - least) / unit, f = level - std::floor(level);
        mean.push_back(static_cast<double>(value));
        variance.push_back(unit * unit * f * (1 - f));
      }
    }
    Coder coder("cgx:bucket=64,rounding=stochastic,bits=" + std::to_string(bits));
    check(draw(coder, x, many), mean, variance, many);
  }
}

TEST_CASE("dithering by the largest magnitude: mean x, variance (N / s)^2 f (1 - f)", "[unit]") {
  std::vector<float> x(100);
  Philox(4, "x", 0, Purpose::data).fill_normal(std::span(x));
  for (const int levels : {1, 7, 300}) {
    const auto top = std::ranges::max(x, {}, [](float value) { return std::abs(value); });
    const double unit = static_cast<double>(std::abs(top)) / levels;
    std::vector<double> mean, variance;
    for (const float value : x) {
      const double level = std::abs(static_cast<double>(value)) / unit, f = level - std::floor(level);
      mean.push_back(static_cast<double>(value));
      variance.push_back(unit * unit * f * (1 - f));
    }
    Coder coder("qsgd:bucket=0,norm=max,levels=" + std::to_string(levels));
    check(draw(coder, x, many), mean, variance, many);
  }
}

TEST_CASE("atoms of a decomposition: unbiased, with the variance of their chances", "[unit]") {
  constexpr std::size_t draws = 10000;
  const auto matrix = at::empty({7, 5});
  const std::span values(matrix.data_ptr<float>(), 35);
  Philox(5, "x", 0, Purpose::data).fill_normal(values);
  const std::vector<float> x(values.begin(), values.end());
  const auto singular = at::linalg_svdvals(matrix.to(at::kDouble));
  const double first = singular[0].item<double>(), sum = singular.sum().item<double>();
  REQUIRE(2 * first < sum);  // no chance is cut
  double expected = 0;       // atoms are orthonormal: sum of s^2 (1 / p - 1), p = 2 s / sum
  for (std::int64_t i = 0; i < 5; ++i) {
    const double s = singular[i].item<double>(), p = 2 * s / sum;
    expected += s * s * (1 / p - 1);
  }
  Coder coder("atomo:rank=2", {7, 5});
  const auto got = draw(coder, x, draws);
  double total = 0, worst = 0;
  for (std::size_t j = 0; j < x.size(); ++j) {
    total += got.variance[j];
    worst = std::max(worst,
                     std::abs(got.mean[j] - static_cast<double>(x[j])) / std::sqrt(got.variance[j] / draws));
  }
  CHECK(worst < 4);
  CHECK(total == Approx(expected).epsilon(0.05));

  // The truncated form is exact where the rank is; all atoms together are the matrix.
  const auto low = at::outer(matrix.select(1, 0), matrix.select(0, 0)).contiguous();
  const std::span low_values(std::as_const(low).const_data_ptr<float>(), 35);
  for (const std::string spec : {"atomo:rank=1,sampling=top", "atomo:rank=1", "atomo:rank=5,sampling=top"}) {
    const auto& given =
        spec.find("rank=5") == std::string::npos ? low_values : std::span<const float>(values);
    const auto back = Coder(spec, {7, 5}).round_trip(given);
    for (std::size_t j = 0; j < back.size(); ++j) CHECK(back[j] == Approx(given[j]).margin(1e-5));
  }
  const std::vector<float> zeros(35, 0);
  CHECK(coder.round_trip(zeros) == zeros);
  CHECK(Coder("atomo:sampling=reject", {7, 5}).round_trip(x).size() == 35);
}
