// Golden tables and traces of the adaptive policies: LEGACY, L-GreCo, GraVAC, Accordion.
#include <nlohmann/json.hpp>

#include "adaptive/dynamic_programme.h"
#include "adaptive/error_table.h"
#include "adaptive/gravac.h"
#include "adaptive/legacy.h"
#include "comm/error.h"
#include "compressors/coded_method.h"
#include "tests/catch.h"
#include "tests/support/golden_sparse.h"

using namespace acp;
using acp::golden::Json;

namespace {

Json read(const std::filesystem::path& path) {
  return golden::read_json(path);
}

RatioBy by(const std::string& policy) {
  return policy == "layer"    ? RatioBy::size
         : policy == "epoch"  ? RatioBy::time
         : policy == "policy" ? RatioBy::size_and_time
                              : RatioBy::nothing;
}

PolicySetting rank_setting(std::size_t layers, double own = 4) {
  PolicySetting setting;
  setting.knob = Knob::rank;
  setting.compressor = "powersgd";
  setting.own = own;
  setting.epochs = setting.steps_per_epoch = setting.steps = 1000;
  for (std::size_t l = 0; l < layers; ++l) {
    setting.layers.push_back(
        {.name = "layer" + std::to_string(l), .shape = {64, 64}, .rows = 64, .cols = 64});
  }
  return setting;
}

std::vector<double> levels_of(const LevelPlan& plan) {
  std::vector<double> levels;
  for (const auto& level : plan.levels) levels.push_back(level.value_or(0));
  return levels;
}

}  // namespace

TEST_CASE("golden: LEGACY's tables, and what strict validation refuses", "[unit][policy][golden]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto tables = read(*folder / "legacy-policy" / "tables" / "case.json").at("outputs");
  const std::set<std::string> refused{"layer_fewer_ratios_than_groups",
                                      "layer_more_ratios_than_groups",
                                      "layer_unsorted_splits",
                                      "layer_single_ratio",
                                      "layer_too_many_splits",
                                      "policy_ragged_rows",
                                      "policy_row_too_short"};
  std::size_t compared = 0;
  for (const auto& table : tables.at("tables")) {
    const auto name = table.at("name").get<std::string>();
    INFO(name);
    const auto make = [&] {
      return RatioTable("legacy", by(table.at("policy")), table.at("group_splits").get<std::string>(),
                        table.at("group_compressions").get<std::string>());
    };
    if (refused.contains(name)) {
      CHECK_THROWS_AS(make(), ConfigError);
      continue;
    }
    const auto ratios = make();
    const auto epochs = golden::integers(table.at("query_epochs")),
               sizes = golden::integers(table.at("sizes"));
    const auto total = table.at("epochs").get<std::int64_t>();
    for (std::size_t i = 0; i < epochs.size(); ++i) {
      for (std::size_t j = 0; j < sizes.size(); ++j) {
        const auto& expected = table.at("ratio")[i][j];
        const double ratio = ratios.ratio(sizes[j], epochs[i], total);
        // Beyond the end the original fails, and the last row goes on here.
        if (expected.is_object()) {
          CHECK(ratio == ratios.ratio(sizes[j], total - 1, total));
        } else {
          CHECK(ratio == expected.get<double>());
        }
        ++compared;
      }
    }
  }
  CHECK(compared > 500);
  for (const auto& bad : tables.at("malformed")) {
    const auto method = bad.at("method").get<std::string>();
    INFO(bad.dump());
    if (method == "mix") continue;  // an unknown method there, an alias here
    CHECK_THROWS_AS(RatioTable("legacy", RatioBy::nothing, bad.at("group_splits").get<std::string>(),
                               bad.at("group_compressions").get<std::string>()),
                    ConfigError);
  }
}

TEST_CASE("golden: L-GreCo's dynamic programme", "[unit][policy][golden]") {
  const auto folder = golden::folder();
  if (!folder) return;
  std::size_t cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(*folder / "lgreco")) {
    if (entry.path().extension() != ".json" || entry.path().stem() == "errtable") continue;
    const auto json = read(entry.path());
    INFO(entry.path().stem().string());
    const auto errors = json.at("errors").get<Table>(), sizes = json.at("sizes").get<Table>();
    const std::vector<std::size_t> reference(errors.size(), json.at("default_index").get<std::size_t>());
    const auto answer = allocate_error(errors, sizes, reference, json.at("alpha"), json.at("buckets"));
    CHECK(answer.budget == Approx(json.at("target_error").get<double>()).epsilon(1e-12));
    CHECK(answer.chosen == json.at("chosen_index").get<std::vector<std::size_t>>());
    CHECK(answer.feasible == json.value("feasible", true));
    if (answer.feasible) {
      CHECK(answer.size == json.at("objective").get<double>());
      CHECK(answer.cell == json.at("chosen_cell").get<std::size_t>());
    }
    ++cases;
  }
  CHECK(cases == 7);
}

TEST_CASE("golden: L-GreCo's error table", "[unit][policy][golden]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto json = read(*folder / "lgreco" / "errtable.json");
  const std::vector<std::int64_t> ranks{2, 3, 4, 5, 6, 7, 8};
  Table errors;
  std::vector<double> ratios;
  for (std::size_t m = 0; m < 3; ++m) {
    const auto& about = json.at("matrices")[m];
    const auto matrix =
        at::tensor(golden::read_floats(*folder / "lgreco" / about.at("file").get<std::string>()))
            .view({about.at("rows").get<std::int64_t>(), about.at("cols").get<std::int64_t>()});
    const auto exact = rank_errors(matrix, ranks, RankErrors::svd, 1, "m");
    const auto expected = json.at("svd_errors")[m].get<std::vector<double>>();
    for (std::size_t k = 0; k < ranks.size(); ++k) CHECK(exact[k] == Approx(expected[k]).epsilon(1e-5));
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const auto found = rank_errors(matrix, ranks, RankErrors::power, seed, "m");
      for (std::size_t k = 0; k < ranks.size(); ++k) {
        CHECK(found[k] >= (1 - 1e-6) * exact[k]);
        ratios.push_back(found[k] / exact[k]);
      }
    }
    errors.push_back(exact);
  }
  std::ranges::sort(ratios);
  CHECK(ratios[ratios.size() / 2] <= 1.03);
  const auto answer = allocate_error(errors, json.at("sizes").get<Table>(), {2, 2, 2}, 1);
  std::vector<std::int64_t> chosen;
  for (const auto k : answer.chosen) chosen.push_back(ranks[k]);
  CHECK(chosen == golden::integers(json.at("chosen_param")));
}

TEST_CASE("golden: GraVAC's moving average", "[unit][policy][golden]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto json = read(*folder / "gravac-controller" / "moving_window_average" / "case.json");
  const auto values = json.at("inputs").at("values").get<std::vector<double>>();
  for (const auto& [name, window, alpha] : {std::tuple{"w1_a0.05", 1, 0.05},
                                            {"w5_a0.3", 5, 0.3},
                                            {"w25_a0.05", 25, 0.05},
                                            {"w100_a0.02", 100, 0.02}}) {
    const auto expected = json.at("outputs").at(name).get<std::vector<double>>();
    MovingAverage average(static_cast<std::size_t>(window), alpha);
    for (std::size_t i = 0; i < values.size(); ++i)
      CHECK(average.push(values[i]) == Approx(expected[i]).epsilon(1e-12));
  }
}

TEST_CASE("golden: GraVAC's controller", "[unit][policy][golden]") {
  const auto folder = golden::folder();
  if (!folder) return;
  std::size_t decisions = 0;
  for (const auto& entry : std::filesystem::directory_iterator(*folder / "gravac-controller")) {
    if (!entry.path().filename().string().starts_with("corrected_")) continue;
    const auto json = read(entry.path() / "case.json");
    INFO(entry.path().filename().string());
    const auto& params = json.at("params");
    GravacSettings settings;
    settings.ladder = params.at("ladder").get<std::vector<double>>();
    settings.epsilon = params.at("epsilon");
    settings.omega = params.at("omega");
    settings.window = params.at("window");
    settings.alpha = params.at("alpha");
    settings.interval = params.at("interval");
    auto controller = std::make_unique<GravacController>(settings);
    std::map<double, std::vector<double>> norms;
    std::vector<double> raw;
    for (const auto& [factor, values] : json.at("inputs").at("norms").items()) {
      (factor == "o" ? raw : norms[std::stod(factor)]) = values.get<std::vector<double>>();
    }
    const auto jitter = json.at("inputs").at("jitter").get<std::vector<double>>();
    const double samples = params.at("world_size").get<double>() * params.at("train_bsz").get<double>();
    const auto& rows = json.at("outputs").at("decisions");
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto& row = rows[i];
      INFO("step " << i + 1);
      // A restart in the middle changes nothing.
      if (i == rows.size() / 2) {
        auto restored = std::make_unique<GravacController>(settings);
        restored->load_state(controller->state());
        controller = std::move(restored);
      }
      const double candidate = controller->candidate();
      CHECK(candidate == row[2].get<double>());
      const auto decision =
          controller->decide(raw[i], norms.at(controller->theta_min())[i], norms.at(candidate)[i]);
      CHECK(to_string(decision.label) == row[1].get<std::string>());
      CHECK(decision.factor == row[3].get<double>());
      const double seconds = params.at("t_compute").get<double>() +
                             params.at("t_dense").get<double>() / decision.factor + jitter[i];
      if (row[4].is_null() || (decision.label == GravacLabel::warmup)) {
        CHECK_FALSE(decision.gain);
      } else {
        CHECK(decision.gain.value() == Approx(row[4].get<double>()).epsilon(1e-9));
        CHECK(samples / seconds == Approx(row[5].get<double>()).epsilon(1e-9));
      }
      const auto event = controller->finish(samples / seconds);
      CHECK(event == (row[6].is_null() ? "" : row[6].get<std::string>()));
      CHECK(controller->candidate() == row[7].get<double>());
      ++decisions;
    }
  }
  CHECK(decisions > 1200);
}

TEST_CASE("golden: multi-level top-k chooses what direct top-k does", "[unit][policy][golden]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto path = *folder / "gravac-multilevel" / "nested_topk";
  const auto json = read(path / "case.json");
  const auto x = golden::floats(json.at("inputs").at("x"), path);
  const auto sparsifier = make_sparsifier(parse_spec("topk:ratio=0.1").at(0));
  REQUIRE(sparsifier->narrows_exactly());
  const StepContext step;
  const Block block{"x", {static_cast<std::int64_t>(x.size())}, &step};
  Selection first, level;
  sparsifier->select(x, x, block, first);
  for (const auto& expected : json.at("outputs").at("levels")) {
    const double factor = expected.at("factor").get<double>();
    INFO(factor);
    sparsifier->narrow(x, block, 1 / factor, first, level);
    REQUIRE(level.indices.size() == expected.at("k").get<std::size_t>());
    const auto head = golden::integers(expected.at("idx"));
    for (std::size_t i = 0; i < head.size(); ++i) CHECK(level.indices[i] == head[i]);
    std::int64_t sum = 0;
    double squares = 0;
    for (std::size_t i = 0; i < level.indices.size(); ++i) {
      sum += level.indices[i];
      squares += static_cast<double>(level.values[i]) * static_cast<double>(level.values[i]);
    }
    CHECK(sum == expected.at("idx_sum").get<std::int64_t>());
    CHECK(std::sqrt(squares) == Approx(expected.at("norm").get<double>()).epsilon(1e-6));
  }
}

TEST_CASE("golden: Accordion, whole runs with their learning rates", "[unit][policy][golden]") {
  const auto folder = golden::folder();
  if (!folder) return;
  for (const std::string name : {"original_powersgd_rank", "original_topk_ratio"}) {
    const auto json = read(*folder / "accordion" / name / "case.json");
    INFO(name);
    const auto norms = json.at("inputs").at("norms_per_epoch").get<Table>();
    const auto rates = json.at("inputs").at("lr_by_epoch").get<std::vector<double>>();
    const auto active = json.at("outputs").at("active_during_epoch").get<Table>();
    auto setting = rank_setting(norms[0].size());
    const bool ratio = name == "original_topk_ratio";
    if (ratio) setting.knob = Knob::ratio;
    const auto policy =
        PolicySpec(ratio ? "accordion:high=0.99,low=0.1" : "accordion:high=2,low=1").make(setting);
    Observations seen;
    seen.learning_rate = rates[0];
    auto plan = policy->plan(seen);
    for (std::size_t e = 0; e < norms.size(); ++e) {
      INFO("epoch " << e);
      CHECK(levels_of(plan) == active[e]);
      seen.moment = {1000 * (e + 1), e + 1, true};
      seen.learning_rate = rates[e + 1];
      const auto request = policy->request(seen.moment);
      CHECK(request.norms == (e % 10 == 0));
      seen.norms = request.norms ? norms[e] : std::vector<double>();
      plan = policy->plan(seen);
    }
  }
}

TEST_CASE("golden: Accordion's other forms", "[unit][policy][golden]") {
  const auto folder = golden::folder();
  if (!folder) return;
  {
    const auto json = read(*folder / "accordion" / "rethink_reducer_topk" / "case.json");
    const auto norms = json.at("inputs").at("norms").get<Table>();
    const auto rates = json.at("inputs").at("lr").get<std::vector<double>>();
    const auto expected = json.at("outputs").at("k_per_epoch").get<Table>();
    auto setting = rank_setting(norms[0].size());
    setting.knob = Knob::ratio;
    setting.steps_per_epoch = 1;
    const auto policy = PolicySpec("accordion:form=reducer,high=0.1,low=0.01").make(setting);
    Observations seen;
    for (std::size_t e = 0; e < norms.size(); ++e) {
      // After the first (here the only) step of epoch e.
      seen.moment = {e + 1, e + 1, true};
      seen.learning_rate = rates[e];
      const auto request = policy->request(seen.moment);
      CHECK(request.norms == (e % 10 == 0));
      seen.norms = request.norms ? norms[e] : std::vector<double>();
      const auto levels = levels_of(policy->plan(seen));
      for (std::size_t l = 0; l < levels.size(); ++l)
        CHECK(static_cast<float>(levels[l]) == static_cast<float>(expected[e][l]));
    }
  }
  {
    const auto json = read(*folder / "accordion" / "lgreco_hook_powersgd" / "case.json");
    const auto norms = json.at("inputs").at("norms").get<Table>();
    for (const auto& [name, expected] : json.at("outputs").items()) {
      INFO(name);
      // A rank of 0 must become 1.
      const auto high = expected.at("max_rank").get<int>(),
                 low = std::max(1, expected.at("min_rank").get<int>());
      const auto policy = PolicySpec("accordion:form=hook,period=20,high=" + std::to_string(high) +
                                     ",low=" + std::to_string(low))
                              .make(rank_setting(norms[0].size(), 3));
      Observations seen;
      CHECK(levels_of(policy->plan(seen)) == std::vector<double>(norms[0].size(), 3));
      for (std::size_t i = 0; i < norms.size(); ++i) {
        seen.moment = {20 * (i + 1), 0, false};
        REQUIRE(policy->request(seen.moment).norms);
        seen.norms = norms[i];
        auto ranks = expected.at("ranks")[i].get<std::vector<double>>();
        for (auto& rank : ranks) rank = std::max(rank, 1.0);
        CHECK(levels_of(policy->plan(seen)) == ranks);
      }
    }
  }
  {
    const auto json = read(*folder / "accordion" / "gravac_variant" / "case.json");
    const auto norms = json.at("inputs").at("norms").get<std::vector<double>>();
    for (const auto& [name, window, alpha] : {std::tuple{"w10_a0.3_th0.2", 10, 0.3},
                                              {"w100_a0.02_th0.2", 100, 0.02},
                                              {"w1_a0.02_th0.2", 1, 0.02}}) {
      const auto expected = json.at("outputs").at(name).get<std::vector<double>>();
      BurstDetector detector(static_cast<std::size_t>(window), alpha, 0.2);
      for (std::size_t i = 0; i < norms.size(); ++i) {
        CHECK((detector.push(norms[i]) ? 0.99 : 0.25) == expected[i]);
      }
    }
  }
}
