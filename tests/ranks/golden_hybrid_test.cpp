// Hybrids of a sparsifier and a quantiser against the recorded numbers.
#include <cmath>
#include <sstream>

#include "compressors/residual.h"
#include "tests/catch.h"
#include "tests/support/golden_sparse.h"
#include "tests/support/rank_driver.h"

using namespace acp;
using golden::integers;
using golden::Json;
using golden::places;
using golden::tensor;

namespace {

// The folder of golden vectors, if all these methods are there.
std::optional<std::filesystem::path> folder_for(std::initializer_list<std::string> names) {
  for (const auto& name : names) {
    const auto all = methods();
    if (std::ranges::none_of(all, [&](const MethodInfo* method) { return method->name == name; })) return {};
  }
  return golden::folder();
}

bool near(double a, double b, double relative) {
  return std::abs(a - b) <= relative * std::max(std::abs(a), std::abs(b)) + 1e-9;
}

// Five steps with error memory on one rank.
void check_signs(const std::string& spec, const Json& record) {
  CAPTURE(spec);
  std::ostringstream found;
  on_ranks(1, [&](Communicator& communicator) {
    RankDriver driver(spec, {{"x", {181}}}, communicator, "residual");
    for (std::size_t i = 0; i < 5; ++i) {
      const auto sent = driver.step({{"x", tensor(record.at("inputs").at("gradients").at(i))}}).at("x");
      const auto& expected = record.at("outputs").at("steps").at(i);
      const auto indices = integers(expected.at("idx"));
      if (places(sent) != indices) found << "step " << i << ": other elements; ";
      for (std::size_t k = 0; k < indices.size(); ++k) {
        const double value = sent[indices[k]].item<double>();
        const double sign = expected.at("bits").at(k).get<int>() == 1 ? 1 : -1;
        if (!near(value, sign * expected.at("scale").get<double>(), 1e-6))
          found << "step " << i << ": other values; ";
      }
      const auto error = find_state(driver.compressor().state(), "x", "error");
      if (!near(error.to(at::kDouble).norm().item<double>(), expected.at("residual_l2").get<double>(),
                1e-5)) {
        found << "step " << i << ": another error; ";
      }
    }
    const auto error = find_state(driver.compressor().state(), "x", "error");
    if (!at::allclose(error, tensor(record.at("outputs").at("final_residual")), 0, 1e-6))
      found << "another last error";
  });
  CHECK(found.str() == "");
}

}  // namespace

TEST_CASE("sparsifier+efsignsgd gives the recorded elements, signs, scales and errors", "[ranks][golden]") {
  const auto root = folder_for({"efsignsgd"});
  if (!root) return;
  for (const auto* ratio : {"0.001", "0.01", "0.1"}) {
    const std::string text(ratio);
    check_signs("topk:ratio=" + text + "+efsignsgd",
                golden::read_json(*root / "hybrid" / ("topk_efsign_r" + text) / "case.json"));
  }
  for (const auto* c : {"0.5", "1", "3"}) {
    const std::string text(c);
    check_signs("adacomp:bin_size=0,send=H,c=" + text + "+efsignsgd",
                golden::read_json(*root / "hybrid" / ("adacomp_efsign_c" + text) / "case.json"));
  }
}

TEST_CASE("messages of hybrids have the recorded bytes", "[ranks][golden]") {
  const auto root = folder_for({"efsignsgd"});
  if (!root) return;
  const auto record = golden::read_json(*root / "hybrid/payload_bytes/case.json");
  const auto x = tensor(record.at("inputs").at("x"));
  int dense = 0, chosen = 0;
  for (const auto& message : record.at("outputs").at("messages")) {
    const auto kind = message.at("kind").get<std::string>();
    const bool empty = message.value("k", 1) == 0;
    if (kind != "topk_efsign" && kind != "efsign_dense" && !empty) continue;
    std::ostringstream spec;
    if (empty) spec << "threshold:indices=plain,value=1e30+";
    if (kind == "topk_efsign")
      spec << "topk:indices=plain,ratio=" << message.at("ratio").get<double>() << "+";
    spec << "efsignsgd";
    auto bucket = make_bucket({{"x", {x.numel()}}});
    const auto compressor = CompressorFactory(spec.str(), {}).make(bucket);
    bucket.grads.copy_(x);
    auto exchange = compressor->exchange(bucket, {0, 1, 0, 17});
    auto op = exchange.advance();
    std::int64_t head = 2;  // of a payload: flags, and which parameters have a gradient
    if (kind != "efsign_dense") {
      op->out.copy_(op->in);
      op = exchange.advance();
      head = 1;
    }
    std::string hex;
    for (std::int64_t i = head; i < op->in.numel(); ++i) {
      const auto byte = op->in[i].item<std::uint8_t>();
      hex += "0123456789abcdef"[byte >> 4U];
      hex += "0123456789abcdef"[byte & 15U];
    }
    CAPTURE(spec.str());
    CHECK(hex == message.at("hex").get<std::string>());
    ++(kind == "efsign_dense" ? dense : chosen);
  }
  CHECK(dense > 0);
  CHECK(chosen > 1);
}

TEST_CASE("topk+terngrad: the recorded elements, scale, and mean of the draws", "[ranks][golden]") {
  const auto root = folder_for({"terngrad"});
  if (!root) return;
  const auto record = golden::read_json(*root / "hybrid/topk_terngrad/case.json");
  const auto x = tensor(record.at("inputs").at("x"));
  for (const auto& [name, expected] : record.at("outputs").items()) {
    double ratio = 0, clip = 0;
    REQUIRE(std::sscanf(name.c_str(), "r%lf_clip%lf", &ratio, &clip) == 2);
    std::ostringstream spec;
    spec << "topk:ratio=" << ratio << "+terngrad:clip=" << clip;
    constexpr int draws = 5000;
    const auto indices = at::tensor(integers(expected.at("idx")), at::kLong);
    const double scale = expected.at("scale").get<double>();
    auto sum = at::zeros({x.numel()}, at::kDouble);
    double off = 0;
    on_ranks(1, [&](Communicator& communicator) {
      RankDriver driver(spec.str(), {{"x", {x.numel()}}}, communicator, "none");
      for (int i = 0; i < draws; ++i) {
        const auto ternary = driver.step({{"x", x}}).at("x").to(at::kDouble) / scale;
        off = std::max(off, (ternary - ternary.round()).abs().max().item<double>());
        sum += ternary;
      }
    });
    const auto mean = sum.index({indices}) / draws;
    const auto p = mean.abs();
    // Two estimates, of 5000 and 3000 draws.
    const auto bound = 5 * (p * (1 - p) * (1.0 / draws + 1.0 / 3000)).sqrt() + 3.0 / 3000;
    CAPTURE(spec.str());
    CHECK(off < 1e-5);
    CHECK((sum != 0).sum().item<std::int64_t>() <= indices.numel());
    CHECK(((mean - tensor(expected.at("mean_ternary"))).abs() <= bound).all().item<bool>());
  }
}

TEST_CASE("adacomp+terngrad: the recorded elements, scale and chances", "[ranks][golden]") {
  const auto root = folder_for({"terngrad"});
  if (!root) return;
  const auto record = golden::read_json(*root / "hybrid/adacomp_terngrad_spec/case.json");
  const auto x = tensor(record.at("inputs").at("x"));
  for (const auto& [name, expected] : record.at("outputs").items()) {
    double c = 0, clip = 0;
    REQUIRE(std::sscanf(name.c_str(), "c%lf_clip%lf", &c, &clip) == 2);
    std::ostringstream spec;
    spec << "adacomp:bin_size=0,send=H,c=" << c << "+terngrad:clip=" << clip;
    constexpr int draws = 5000;
    const auto indices = integers(expected.at("idx"));
    const double scale = expected.at("scale").get<double>();
    auto kept = at::zeros({x.numel()}, at::kDouble);
    double off = 0;
    on_ranks(1, [&](Communicator& communicator) {
      RankDriver driver(spec.str(), {{"x", {x.numel()}}}, communicator, "none");
      for (int i = 0; i < draws; ++i) {
        const auto magnitude = driver.step({{"x", x}}).at("x").to(at::kDouble).abs() / scale;
        off = std::max(off, (magnitude - magnitude.round()).abs().max().item<double>());
        kept += magnitude;
      }
    });
    CAPTURE(spec.str());
    CHECK(off < 1e-5);
    CHECK(places(kept) == indices);
    const auto p = tensor(expected.at("p_keep")).to(at::kDouble);
    const auto found = kept.index({at::tensor(indices, at::kLong)}) / draws;
    CHECK(((found - p).abs() <= 5 * (p * (1 - p) / draws).sqrt() + 3.0 / draws).all().item<bool>());
  }
}
