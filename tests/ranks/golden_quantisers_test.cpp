// Quantisers on several ranks against the recorded steps.
#include <ATen/ATen.h>

#include "tests/catch.h"
#include "tests/support/golden_json.h"
#include "tests/support/rank_driver.h"

using namespace acp;
using nlohmann::json;

namespace {

at::Tensor tensor(const json& numbers) {
  return at::tensor(numbers.get<std::vector<float>>());
}

double difference(const at::Tensor& got, const at::Tensor& expected) {
  const auto scale = expected.abs().max().item<double>();
  return (got.view(-1) - expected).abs().max().item<double>() / std::max(scale, 1e-30);
}

// Steps with inputs of every worker, the combined result and, where recorded, each worker's memory.
void check_steps(const std::string& file, const std::string& spec, double tolerance) {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto golden = golden::json_file(*folder / "compressors" / (file + ".json"));
  const auto n = static_cast<std::int64_t>(golden.at("steps")[0].at("inputs")[0].size());
  const auto found = each_rank(golden.at("workers").get<int>(), [&](Communicator& communicator) {
    const auto rank = static_cast<std::size_t>(communicator.rank());
    RankDriver driver(spec, {{"w", {n}}}, communicator);
    double worst = 0;
    for (const auto& step : golden.at("steps")) {
      const auto result = driver.step({{"w", tensor(step.at("inputs")[rank])}});
      worst = std::max(worst, difference(result.at("w"), tensor(step.at("aggregated"))));
      const auto& residual = step.at("residual")[rank];
      if (!residual.is_null()) {
        worst =
            std::max(worst, difference(driver.compressor().state().at("w").at("error"), tensor(residual)));
      }
    }
    return worst;
  });
  CAPTURE(file, spec);
  for (const double worst : found) CHECK(worst <= tolerance);
}

}  // namespace

TEST_CASE("golden: majority votes of signs and of momenta", "[ranks]") {
  check_steps("signsgd_majority_w4", "signsgd", 0);
  check_steps("signsgd_majority_w4", "signsgd:exchange=scatter", 0);
  check_steps("signum_w2", "signum", 0);
  check_steps("signum_w2", "signum:exchange=scatter", 0);
}

TEST_CASE("golden: signs with error feedback as GRACE has it", "[ranks]") {
  check_steps("efsignsgd_w2", "efsignsgd:form=grace,lr=0.1", 1e-5);
}

TEST_CASE("golden: half precision", "[ranks]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto golden = golden::json_file(*folder / "compressors" / "fp16.json");
  const auto input = tensor(golden.at("input"));
  const auto found = each_rank(1, [&](Communicator& communicator) {
    return RankDriver("fp16", {{"w", {input.numel()}}}, communicator).step({{"w", input}}).at("w");
  });
  const auto bits = golden.at("half_bits").get<std::vector<std::int32_t>>();
  const auto got = found[0].to(at::kHalf).view(at::kShort).to(at::kInt).bitwise_and(0xffff);
  CHECK(at::equal(got, at::tensor(bits)));
  CHECK(at::equal(found[0], found[0].to(at::kHalf).to(at::kFloat)));
}

TEST_CASE("golden: max-min levels by compressed reduce-scatter and all-gather", "[ranks]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto golden = golden::json_file(*folder / "cgx" / "sra_w3.json");
  const int workers = golden.at("workers").get<int>();
  const auto found = each_rank(workers, [&](Communicator& communicator) {
    RankDriver driver("cgx:bits=4,bucket=64,min_size=0,vectors=coded",
                      {{"w", {golden.at("elements").get<std::int64_t>()}}}, communicator);
    const auto& input = golden.at("inputs")[static_cast<std::size_t>(communicator.rank())];
    return difference(driver.step({{"w", tensor(input)}}).at("w") * workers, tensor(golden.at("result_sum")));
  });
  for (const double off : found) CHECK(off <= 1e-6);
}

TEST_CASE("golden: truncated decompositions with error feedback", "[ranks]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto path = *folder / "paper_reducers" / "SVDReducer";
  const auto golden = golden::json_file(path / "case.json");
  const auto inputs = path / golden.at("inputs").get<std::string>();
  const auto layout = golden::json_file(inputs / "case.json");
  const auto read = [](const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    auto numbers = at::empty({static_cast<std::int64_t>(bytes.size() / sizeof(float))});
    std::copy(bytes.begin(), bytes.end(), static_cast<char*>(numbers.data_ptr()));
    return numbers;
  };
  Shapes shapes;
  for (const auto& p : layout.at("params")) {
    shapes.emplace_back(p.at("name").get<std::string>(), p.at("shape").get<std::vector<std::int64_t>>());
  }
  const auto gradients = read(inputs / layout.at("file").get<std::string>())
                             .view(at::IntArrayRef(layout.at("shape").get<std::vector<std::int64_t>>()));
  const int workers = golden.at("workers").get<int>();
  const auto steps = golden.at("steps").get<std::int64_t>();
  const auto averages = read(path / "grad_avg.bin").view({steps, -1});
  const auto errors = read(path / "error.bin").view({steps, workers, -1});
  const auto found = each_rank(workers, [&](Communicator& communicator) {
    RankDriver driver("atomo:rank=2,sampling=top,view=rows", shapes, communicator, "residual");
    double worst = 0;
    for (std::int64_t step = 0; step < steps; ++step) {
      const auto mine = gradients[step][communicator.rank()];
      const auto parts = [&](const at::Tensor& flat) {
        Gradients result;
        std::int64_t at = 0;
        for (const auto& [name, shape] : shapes) {
          result[name] = flat.narrow(0, at, numel(shape)).view(shape);
          at += numel(shape);
        }
        return result;
      };
      const auto result = driver.step(parts(mine));
      const auto expected = parts(averages[step]), expected_error = parts(errors[step][communicator.rank()]);
      const auto state = driver.compressor().state();
      for (const auto& [name, shape] : shapes) {
        worst = std::max(worst, (result.at(name) - expected.at(name)).abs().max().item<double>());
        const auto off = state.at(name).at("error") - expected_error.at(name);
        worst = std::max(worst, off.abs().max().item<double>());
      }
    }
    return worst;
  });
  for (const double worst : found) CHECK(worst <= 1e-5);
}
