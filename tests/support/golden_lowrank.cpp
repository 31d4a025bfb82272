// Reads golden cases and replays them.
#include "tests/support/golden_lowrank.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "compressors/orthogonalize.h"
#include "tests/source_root.h"
#include "tests/support/rank_driver.h"

namespace acp::golden {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read_json(const fs::path& file) {
  std::ifstream in(file);
  if (!in) throw std::runtime_error("cannot read " + file.string());
  return json::parse(in);
}

// Raw little-endian float32.
at::Tensor read_floats(const fs::path& file) {
  static_assert(std::endian::native == std::endian::little);
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + file.string());
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  auto numbers = at::empty({static_cast<std::int64_t>(bytes.size() / sizeof(float))});
  std::copy(bytes.begin(), bytes.end(), static_cast<char*>(numbers.data_ptr()));
  return numbers;
}

struct Tolerance {
  double gradient, error, factor;
};

struct Case {
  json info;
  Shapes shapes;         // in registration order
  at::Tensor gradients;  // [step][worker][element]
  fs::path folder;
  Tolerance tolerance{};
  std::string spec;
  int first_compressed = 0;

  at::Tensor file(const std::string& key) const {
    return read_floats(folder / info["files"].at(key).get<std::string>());
  }
  bool has(const std::string& key) const { return info["files"].contains(key); }
};

// Which specification reproduces which published implementation.
void choose(Case& c) {
  const auto algorithm = c.info["algorithm"].get<std::string>();
  const auto rank = "rank=" + std::to_string(c.info["rank"].get<int>());
  if (algorithm == "acpsgd") {
    c.spec = "acpsgd:" + rank;
    c.tolerance = {2e-5, 2e-5, 1e-4};
  } else if (algorithm == "powersgd_ddp_hook") {
    c.first_compressed = c.info["start_iter"].get<int>();
    c.spec = "powersgd:" + rank + ",start=" + std::to_string(c.first_compressed) +
             ",min_rate=" + std::to_string(c.info["min_compression_rate"].get<int>());
    c.tolerance = {5e-5, 5e-5, 0};
  } else if (algorithm == "powersgd_epfml") {
    const int rounds = c.info.value("num_iters_per_step", 1);
    c.spec = "powersgd:form=alternating," + rank + ",iterations=" + std::to_string(rounds);
    c.tolerance = {5e-5, 5e-5, rounds > 1 ? 1e-3 : 1e-4};
  } else if (algorithm == "powersgd_paper_RankKReducer") {
    c.spec = "powersgd:form=rankk," + rank;
    c.tolerance = {1e-4, 1e-4, 0};
  } else if (algorithm == "powersgd_paper_HalfRankKReducer") {
    c.spec = "powersgd:form=halfrankk," + rank;
    c.tolerance = {1e-4, 1e-4, 0};
  } else {
    throw std::runtime_error("unknown algorithm " + algorithm);
  }
}

Case load(const fs::path& folder) {
  Case c;
  c.folder = folder;
  c.info = read_json(folder / "case.json");
  const auto inputs = folder / c.info["inputs"].get<std::string>();
  for (const auto& file : fs::directory_iterator(inputs)) {
    if (file.path().extension() != ".json") continue;
    const auto layout = read_json(file.path());
    for (const auto& p : layout["params"]) {
      c.shapes.emplace_back(p["name"].get<std::string>(), p["shape"].get<std::vector<std::int64_t>>());
    }
    c.gradients = read_floats(inputs / layout["file"].get<std::string>())
                      .view(at::IntArrayRef(layout["shape"].get<std::vector<std::int64_t>>()));
  }
  choose(c);
  return c;
}

// The parts of a flat array of all parameters, by name and in their shapes.
Gradients parts(const Case& c, const at::Tensor& flat) {
  Gradients result;
  std::int64_t offset = 0;
  for (const auto& [name, shape] : c.shapes) {
    const auto size = numel(shape);
    result[name] = flat.narrow(0, offset, size).view(shape);
    offset += size;
  }
  return result;
}

// What has been found wrong; only the first difference is kept.
class Findings {
 public:
  void compare(const at::Tensor& got, const at::Tensor& expected, double scale, double tolerance,
               const std::string& what) {
    const double off = (got.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
    if (off <= tolerance * scale || !text.empty()) return;
    std::ostringstream out;
    out << what << ": off by " << off / scale << " of the largest, tolerance " << tolerance;
    text = out.str();
  }
  std::string text;
};

double largest(const at::Tensor& x) {
  return x.abs().max().item<double>();
}

at::Tensor orthonormal(const at::Tensor& columns) {
  const auto rows = columns.t().contiguous();
  const auto basis = at::empty_like(rows);
  orthogonalize(rows, basis);
  return basis.t();
}

// With the sign of each column as in `expected`.
at::Tensor align(const at::Tensor& columns, const at::Tensor& expected) {
  return columns * at::where((columns * expected).sum(0) < 0, -1.0, 1.0);
}

// All ranks' buckets of one rank.
using Drivers = std::vector<std::unique_ptr<RankDriver>>;

Drivers make_drivers(const Case& c, Communicator& communicator, bool one_bucket) {
  Shapes backwards(c.shapes.rbegin(), c.shapes.rend());
  Drivers drivers;
  if (one_bucket) {
    drivers.push_back(std::make_unique<RankDriver>(c.spec, backwards, communicator));
  } else {
    for (const auto& shape : backwards) {
      drivers.push_back(std::make_unique<RankDriver>(c.spec, Shapes{shape}, communicator));
    }
  }
  return drivers;
}

// The recorded start of P and Q.
State start_state(const Case& c) {
  State state;
  for (const std::string kind : {"p", "q"}) {
    if (!c.has(kind + "_init")) continue;
    const auto flat = c.file(kind + "_init");
    std::int64_t offset = 0;
    for (const auto& m : c.info["matrices"]) {
      const auto shape = m[kind + "_shape"].get<std::vector<std::int64_t>>();
      state[m["name"].get<std::string>()][kind] = flat.narrow(0, offset, numel(shape)).view(shape);
      offset += numel(shape);
    }
  }
  return state;
}

State collect(const Drivers& drivers) {
  State all;
  for (const auto& driver : drivers) {
    for (auto& [name, kinds] : driver->state()) all[name] = kinds;
  }
  return all;
}

void check_factors(const Case& c, int step, const State& state, Findings& findings) {
  const auto workers = c.info["workers"].get<int>();
  const int rounds = c.info.value("num_iters_per_step", 1);
  const bool p_first = c.info["algorithm"] == "acpsgd";
  const int last_turn = step * rounds + rounds - 1;
  for (const std::string kind : {"p", "q"}) {
    const auto flat = c.file(kind + "_state");
    const auto all = flat.view({c.info["steps"].get<std::int64_t>(), -1})[step];
    const bool sent = (kind == "p") == ((last_turn % 2 == 0) == p_first);
    std::int64_t offset = 0;
    for (const auto& m : c.info["matrices"]) {
      const auto shape = m[kind + "_shape"].get<std::vector<std::int64_t>>();
      const auto name = m["name"].get<std::string>();
      const auto expected = all.narrow(0, offset, numel(shape)).view(shape);
      offset += numel(shape);
      const auto value = state.at(name).at(kind);
      const auto got = align(sent ? value * workers : orthonormal(value), expected);
      findings.compare(got, expected, largest(expected), c.tolerance.factor,
                       "step " + std::to_string(step) + ", " + kind + " of " + name);
    }
  }
}

void check_errors(const Case& c, int step, int rank, const State& state, Findings& findings) {
  const bool only_matrices = c.info["algorithm"] == "acpsgd";
  const auto file = c.file("error");
  const auto steps = c.info["steps"].get<std::int64_t>() - c.first_compressed;
  const auto of_step =
      file.view({steps, c.info["workers"].get<std::int64_t>(), -1})[step - c.first_compressed];
  std::set<std::string> compressed;
  for (const auto& m : c.info["matrices"]) compressed.insert(m["name"].get<std::string>());
  std::int64_t offset = 0;
  for (const auto& [name, shape] : c.shapes) {
    if (only_matrices && !compressed.contains(name)) continue;
    const auto expected = of_step[rank].narrow(0, offset, numel(shape)).view(shape);
    offset += numel(shape);
    const auto what = "step " + std::to_string(step) + ", error of " + name;
    if (compressed.contains(name)) {
      findings.compare(state.at(name).at("error"), expected, largest(of_step), c.tolerance.error, what);
    } else {
      findings.compare(state.at(name).at("error"), at::zeros_like(expected), 1, 0, what);
    }
  }
}

// Inner SGD of the case: momentum and weight decay act on the averaged gradient.
void advance_theta(const json& sgd, int step, const at::Tensor& gradient, at::Tensor& momentum,
                   at::Tensor& theta) {
  const auto decayed = gradient + sgd["weight_decay"].get<double>() * theta;
  momentum = step == 0 ? decayed : sgd["momentum"].get<double>() * momentum + decayed;
  theta = theta - sgd["lr"].get<double>() * momentum;
}

}  // namespace

std::optional<fs::path> folder() {
  const char* given = std::getenv("ACP_GOLDEN");
  const fs::path path = given != nullptr ? given : source_root() / ".." / "shared" / "golden";
  if (fs::is_directory(path)) return path;
  std::cout << "skipped: no data (golden vectors; set ACP_GOLDEN)\n";
  return {};
}

std::vector<fs::path> cases(const fs::path& set) {
  std::vector<fs::path> result;
  for (const auto& entry : fs::directory_iterator(set)) {
    if (fs::exists(entry.path() / "case.json")) result.push_back(entry.path());
  }
  std::ranges::sort(result);
  return result;
}

int world_size(const fs::path& folder) {
  return read_json(folder / "case.json")["workers"].get<int>();
}

std::string check(const fs::path& folder, Communicator& communicator, bool one_bucket) {
  const auto c = load(folder);
  const int rank = communicator.rank();
  const auto drivers = make_drivers(c, communicator, one_bucket);
  const auto start = start_state(c);
  for (const auto& driver : drivers) driver->compressor().load_state(start);

  const auto steps = c.info["steps"].get<std::int64_t>();
  const auto averages_file = c.file("grad_avg").view({steps, -1});
  at::Tensor theta = c.has("theta") ? c.file("theta0") : at::Tensor(), momentum;
  Findings findings;
  for (int step = 0; step < steps; ++step) {
    const auto gradients = parts(c, c.gradients[step][rank]);
    Gradients averages;
    for (const auto& driver : drivers) {
      Gradients own;
      for (const auto& slice : driver->bucket().slices) own[slice.name] = gradients.at(slice.name);
      averages.merge(driver->step(own));
    }
    std::vector<at::Tensor> flat;
    for (const auto& [name, shape] : c.shapes) flat.push_back(averages.at(name).reshape(-1));
    const auto got = at::cat(flat);
    findings.compare(got, averages_file[step], largest(averages_file[step]), c.tolerance.gradient,
                     "step " + std::to_string(step) + ", gradient");
    if (step >= c.first_compressed) {
      const auto state = collect(drivers);
      check_errors(c, step, rank, state, findings);
      if (c.has("p_state")) check_factors(c, step, state, findings);
    }
    if (c.has("theta")) {
      advance_theta(c.info["sgd"], step, got, momentum, theta);
      findings.compare(theta, c.file("theta").view({steps, -1})[step], 1, 1e-5,
                       "step " + std::to_string(step) + ", parameters");
    }
  }
  return findings.text;
}

}  // namespace acp::golden
