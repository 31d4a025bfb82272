// DGC, RedSync, SIDCo, AdaComp, the variance-based method and sparse messages against the recorded numbers.
#include <bit>
#include <cmath>
#include <iomanip>
#include <numeric>
#include <sstream>

#include "compressors/kernels/moments.h"
#include "compressors/kernels/select.h"
#include "compressors/memory.h"
#include "compressors/residual.h"
#include "compressors/sparse_wire.h"
#include "compressors/threshold_search.h"
#include "compressors/variance.h"
#include "tests/catch.h"
#include "tests/support/golden_sparse.h"
#include "tests/support/print_bytes.h"
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

double norm(std::span<const float> x) {
  return std::sqrt(kernels::sum_sq(x));
}

std::vector<std::int64_t> chosen(std::span<const float> x, const Cut& cut) {
  std::vector<std::uint32_t> indices;
  kernels::collect(x, cut.least, x.size(), indices);
  return {indices.begin(), indices.end()};
}

std::vector<std::uint32_t> positions(const Json& value) {
  return value.get<std::vector<std::uint32_t>>();
}

// A residual memory by hand, as the recorded programs have it.
struct ByHand {
  std::vector<float> error;
  std::vector<float> y(const std::vector<float>& x) {
    error.resize(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) error[i] += x[i];
    return error;
  }
  double sent(const std::vector<std::int64_t>& indices) {
    double sum = 0;
    for (const auto i : indices) {
      sum += static_cast<double>(std::exchange(error[static_cast<std::size_t>(i)], 0.0F));
    }
    return sum;
  }
};

void check_selection(const Json& expected, const std::vector<std::int64_t>& indices, ByHand& memory) {
  CHECK(std::ssize(indices) == expected.at("count").get<std::int64_t>());
  auto head = integers(expected.at("idx_head"));
  CHECK(head.size() <= indices.size());
  head.resize(std::min(head.size(), indices.size()));
  CHECK(std::vector<std::int64_t>(indices.begin(), indices.begin() + std::ssize(head)) == head);
  CHECK(std::accumulate(indices.begin(), indices.end(), std::int64_t{0}) ==
        expected.at("idx_sum").get<std::int64_t>());
  CHECK(near(memory.sent(indices), expected.at("val_sum").get<double>(), 1e-5, 1e-5));
  CHECK(near(norm(memory.error), expected.at("residual_l2").get<double>(), 1e-5));
}

// Runs body(spec of the method) on one rank.
template <class Body>
void alone(const std::string& spec, std::int64_t n, const std::string& memory, const Body& body) {
  on_ranks(1, [&](Communicator& communicator) {
    RankDriver driver(spec, {{"x", {n}}}, communicator, memory);
    body(driver);
  });
}

}  // namespace

TEST_CASE("DGC selects the recorded elements, given the recorded samples", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  for (const auto* ratio : {"0.01", "0.3"}) {
    const auto record = golden::read_json(*root / "compressors" / ("dgc_" + std::string(ratio) + ".json"));
    const auto x = golden::read_floats(*root / "compressors" / record.at("input_file").get<std::string>());
    const auto cut =
        dgc_threshold(x, record.at("ratio").get<double>(), positions(record.at("sample_indices")));
    CHECK(static_cast<std::int64_t>(cut.count) == record.at("selected").get<std::int64_t>());
    CHECK(chosen(x, cut) == integers(record.at("indices")));
  }
  const auto folder = *root / "gravac-compressors/dgc";
  const auto record = golden::read_json(folder / "case.json");
  for (const auto& run : record.at("outputs").at("runs")) {
    const auto x = floats(record.at("inputs").at(run.at("input").get<std::string>()), folder);
    ByHand memory;
    for (const auto& step : run.at("steps")) {
      const auto y = memory.y(x);
      check_selection(
          step, chosen(y, dgc_threshold(y, run.at("ratio").get<double>(), positions(step.at("sample_idx")))),
          memory);
    }
  }
}

TEST_CASE("DGC's memory corrects the momentum as recorded", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto record = golden::read_json(*root / "compressors/dgc_memory.json");
  auto bucket = make_bucket({{"x", {60}}});
  ErrorMemory memory(bucket, MemoryKind::dgc, {}, record.at("momentum").get<double>());
  for (const auto& step : record.at("steps")) {
    bucket.grads.copy_(tensor(step.at("input")));
    memory.take(bucket);
    const auto y = memory.values();
    const auto compensated = floats(step.at("compensated"));
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(near(y[i], compensated[i], 1e-6, 1e-7));
    const std::vector<std::uint32_t> sample{step.at("sample_index").get<std::uint32_t>()};
    const auto cut = dgc_threshold(y, record.at("ratio").get<double>(), sample);
    const auto indices = chosen(y, cut);
    CHECK(indices == integers(step.at("indices")));
    std::vector<std::uint32_t> sent(indices.begin(), indices.end());
    std::vector<float> values;
    for (const auto i : sent) values.push_back(y[i]);
    memory.sent(0, sent, values);
    memory.done();
    State state;
    memory.save(state);
    CHECK(at::allclose(find_state(state, "x", "velocity"), tensor(step.at("velocity")), 1e-6, 1e-7));
    CHECK(at::allclose(find_state(state, "x", "accumulated"), tensor(step.at("accumulated")), 1e-6, 1e-7));
  }
}

TEST_CASE("RedSync as published selects the recorded elements; ours k to 2 k", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto folder = *root / "gravac-compressors/redsync";
  const auto record = golden::read_json(folder / "case.json");
  for (const auto& run : record.at("outputs").at("runs")) {
    const auto x = floats(record.at("inputs").at(run.at("input").get<std::string>()), folder);
    ByHand memory;
    for (const auto& step : run.at("steps")) {
      const auto y = memory.y(x);
      check_selection(step, chosen(y, redsync_threshold(y, step.at("k").get<std::size_t>(), true).value()),
                      memory);
    }
    const auto k = run.at("steps").at(0).at("k").get<std::size_t>();
    std::ostringstream spec;
    spec << std::setprecision(17) << "redsync:ratio=" << run.at("ratio").get<double>();
    alone(spec.str(), std::ssize(x), "residual", [&](RankDriver& driver) {
      for (int step = 0; step < 10; ++step) {
        const auto count = places(driver.step({{"x", at::tensor(x)}}).at("x")).size();
        CHECK(count >= k);
        CHECK(count < 2 * k);
      }
    });
  }
}

TEST_CASE("SIDCo selects the recorded elements", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto folder = *root / "gravac-compressors/sidco_exp";
  const auto record = golden::read_json(folder / "case.json");
  for (const auto& run : record.at("outputs").at("runs")) {
    const auto x = floats(record.at("inputs").at(run.at("input").get<std::string>()), folder);
    ByHand memory;
    CAPTURE(run.at("input").get<std::string>(), run.at("ratio").get<double>(), run.at("stages").get<int>());
    for (const auto& step : run.at("steps")) {
      const auto y = memory.y(x);
      const auto cut =
          sidco_threshold(y, run.at("ratio").get<double>(), run.at("stages").get<std::int64_t>());
      REQUIRE(cut);
      check_selection(step, chosen(y, *cut), memory);
    }
  }
}

TEST_CASE("AdaComp selects and sends the recorded elements", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto check = [](const std::string& spec, const Json& gradients, const Json& steps, const Json& last) {
    const auto n = static_cast<std::int64_t>(gradients.at(0).size());
    alone(spec, n, "residual", [&](RankDriver& driver) {
      for (std::size_t i = 0; i < steps.size(); ++i) {
        const auto sent = driver.step({{"x", tensor(gradients.at(i))}}).at("x");
        const auto& expected = steps.at(i);
        CHECK(places(sent) == integers(expected.at("idx")));
        CHECK(at::allclose(sent.index({at::tensor(places(sent), at::kLong)}), tensor(expected.at("val")),
                           1e-6, 0));
        const auto* kept = expected.contains("residue_l2") ? "residue_l2" : "residual_l2";
        const auto error = find_state(driver.compressor().state(), "x", "error");
        CHECK(near(error.to(at::kDouble).norm().item<double>(), expected.at(kept).get<double>(), 1e-5));
      }
      const auto error = find_state(driver.compressor().state(), "x", "error");
      CHECK(at::allclose(error, tensor(last), 0, 1e-6));
    });
  };
  const auto bins = golden::read_json(*root / "adacomp/legacy_bins/case.json");
  for (const auto& [name, size] : {std::pair{"bins1", 203}, {"bins4", 51}, {"bins10", 21}, {"bins203", 1}}) {
    CAPTURE(name);
    check("adacomp:bin_size=" + std::to_string(size), bins.at("inputs").at("gradients"),
          bins.at("outputs").at(name), bins.at("outputs").at(std::string(name) + "_final_residue"));
  }
  for (const auto* name : {"gradcomp_c0.5", "gradcomp_c1", "gradcomp_c3", "gradcomp_clip60"}) {
    const auto record = golden::read_json(*root / "adacomp" / name / "case.json");
    std::ostringstream spec;
    spec << "adacomp:bin_size=0,send=H,c=" << record.at("params").value("compensation", 1.0);
    if (std::string(name).ends_with("clip60")) spec << ",clip=60";
    CAPTURE(spec.str());
    check(spec.str(), record.at("inputs").at("gradients"), record.at("outputs").at("steps"),
          record.at("outputs").at("final_residual"));
  }
}

TEST_CASE("the variance-based method sends the recorded elements", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto folder = *root / "variance/legacy_per_sample";
  const auto record = golden::read_json(folder / "case.json");
  const auto samples = tensor(record.at("inputs").at("per_sample"), folder).view({5, 8, 120});
  for (const auto& [name, steps] : record.at("outputs").items()) {
    double alpha = 0, zeta = 0;
    REQUIRE(std::sscanf(name.c_str(), "alpha%lf_zeta%lf", &alpha, &zeta) == 2);
    std::ostringstream spec;
    spec << "variance:encoding=float32,alpha=" << 8 * alpha << ",zeta=" << zeta;
    CAPTURE(spec.str());
    alone(spec.str(), 120, "", [&](RankDriver& driver) {
      for (std::int64_t i = 0; i < 5; ++i) {
        driver.set_squares("x", samples[i].pow(2).mean(0) / 8);
        const auto sent = driver.step({{"x", samples[i].mean(0)}}).at("x");
        const auto& expected = steps.at(static_cast<std::size_t>(i));
        CHECK(places(sent) == integers(expected.at("idx")));
        CHECK(at::allclose(sent.index({at::tensor(places(sent), at::kLong)}), tensor(expected.at("val")),
                           1e-5, 1e-9));
        const auto state = driver.compressor().state();
        CHECK(near(find_state(state, "x", "select.sum").to(at::kDouble).norm().item<double>(),
                   expected.at("r_l2").get<double>(), 1e-5, 1e-8));
        CHECK(near(find_state(state, "x", "select.variance").to(at::kDouble).sum().item<double>() * 8,
                   expected.at("v_sum").get<double>(), 1e-5));
      }
    });
  }
}

TEST_CASE("values become the recorded powers of two", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto record = golden::read_json(*root / "variance/encoding/case.json");
  const auto values = floats(record.at("inputs").at("values"));
  const auto indices = integers(record.at("inputs").at("indices"));
  const float largest = std::bit_cast<float>(kernels::largest(values));
  const int top = std::ilogb(largest);
  CHECK(top == record.at("outputs").at("eM").get<int>());
  std::vector<std::int64_t> kept;
  std::vector<std::uint32_t> words;
  std::vector<float> decoded;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto power = nearest_power(values[i], largest);
    if (!power) continue;
    kept.push_back(indices[i]);
    decoded.push_back(*power);
    words.push_back((*power < 0 ? 1U << 31U : 0U) |
                    static_cast<std::uint32_t>(top - std::ilogb(*power)) << 28U |
                    static_cast<std::uint32_t>(indices[i]));
  }
  CHECK(kept == integers(record.at("outputs").at("kept_indices")));
  CHECK(words == record.at("outputs").at("words").get<std::vector<std::uint32_t>>());
  CHECK(decoded == floats(record.at("outputs").at("decoded")));
  const std::vector<std::uint32_t> places(kept.begin(), kept.end());
  Bytes message, expected;
  write_words(places, decoded, message);
  const auto word = [&](std::uint32_t value) {
    const auto raw = std::as_bytes(std::span(&value, 1));
    expected.insert(expected.end(), raw.begin(), raw.end());
  };
  word(static_cast<std::uint32_t>(words.size()));
  word(static_cast<std::uint32_t>(top));
  for (const auto value : record.at("outputs").at("words").get<std::vector<std::uint32_t>>()) word(value);
  CHECK(message == expected);
  std::vector<std::uint32_t> read_places;
  std::vector<float> read_powers;
  Reader whole(message);
  read_words(whole, most_words, read_places, read_powers);
  whole.end();
  CHECK(read_places == places);
  CHECK(read_powers == decoded);

  Bytes bytes;
  write_values(decoded, ValueForm::power, bytes);
  CHECK(bytes.size() == 1 + (decoded.size() + 1) / 2);
  std::vector<float> again;
  Reader in(bytes);
  read_values(in, decoded.size(), ValueForm::power, again);
  in.end();
  CHECK(again == decoded);
}

TEST_CASE("plain indices lie in a message as recorded", "[ranks][golden]") {
  const auto root = golden::folder();
  if (!root) return;
  const auto record = golden::read_json(*root / "hybrid/payload_bytes/case.json");
  int checked = 0;
  for (const auto& message : record.at("outputs").at("messages")) {
    if (!message.contains("idx")) continue;
    Bytes bytes;
    write_indices(message.at("idx").get<std::vector<std::uint32_t>>(), 61, IndexForm::plain, bytes);
    std::string hex;
    for (const auto byte : bytes) {
      for (const auto digit :
           {std::to_integer<unsigned>(byte) >> 4U, std::to_integer<unsigned>(byte) & 15U}) {
        hex += "0123456789abcdef"[digit];
      }
    }
    CHECK(message.at("hex").get<std::string>().starts_with(hex));
    ++checked;
  }
  CHECK(checked > 0);
}
