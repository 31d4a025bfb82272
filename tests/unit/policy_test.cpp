// Adaptive policies beyond the golden vectors: properties, schedules, and one clear line for every mistake.
#include <cmath>
#include <set>

#include "adaptive/accordion.h"
#include "adaptive/dynamic_programme.h"
#include "adaptive/error_table.h"
#include "adaptive/gravac.h"
#include "adaptive/legacy.h"
#include "adaptive/lgreco.h"
#include "adaptive/ratio_errors.h"
#include "comm/error.h"
#include "compressors/coded_method.h"
#include "compressors/philox.h"
#include "tests/catch.h"

using namespace acp;

namespace {

PolicySetting setting_for(const std::string& compressor, bool run_known = true) {
  const CompressorFactory factory(compressor, {});
  PolicySetting setting;
  setting.layers = {{.name = "conv", .shape = {16, 3, 3, 3}, .rows = 16, .cols = 27},
                    {.name = "fc", .shape = {200, 300}, .rows = 200, .cols = 300},
                    {.name = "bias", .shape = {200}, .rows = 200, .cols = 1}};
  for (auto& layer : setting.layers) layer.compressed = factory.compresses(layer.shape);
  setting.knob = factory.knob();
  setting.compressor = factory.spec();
  setting.own = factory.knob() == Knob::none ? 0 : factory.own_level();
  if (run_known) {
    setting.epochs = 30;
    setting.steps_per_epoch = 100;
  }
  setting.wire_bytes = [factory](const Layer& layer, const Level& level) {
    return level ? factory.at_level(*level).wire_bytes(layer.shape, 4)
                 : static_cast<double>(4 * layer.numel());
  };
  return setting;
}

// The one line that a specification is refused with.
std::string refusal(const std::string& policy, const std::string& compressor, bool run_known = true) {
  try {
    PolicySpec(policy).make(setting_for(compressor, run_known));
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "(accepted)";
}

// 0: dense.
std::vector<double> numbers(const std::vector<Level>& levels) {
  std::vector<double> result;
  for (const auto& level : levels) result.push_back(level.value_or(0));
  return result;
}

std::vector<double> levels(Policy& policy, const Moment& moment) {
  Observations seen;
  seen.moment = moment;
  return numbers(policy.plan(seen).levels);
}

}  // namespace

TEST_CASE("L-GreCo's programme finds what a search of all assignments finds", "[unit][policy]") {
  for (std::uint64_t trial = 0; trial < 300; ++trial) {
    const Philox random(trial, "tables", 0, Purpose::data);
    std::uint64_t next = 0;
    const auto uniform = [&] { return random.uniform(next++); };
    const std::size_t layers = 1 + trial % 5, candidates = 2 + trial % 4, buckets = 20 + 30 * (trial % 3);
    const double alpha = 0.6 + 0.2 * static_cast<double>(trial % 5);
    Table errors, sizes;
    for (std::size_t l = 0; l < layers; ++l) {
      errors.emplace_back();
      sizes.emplace_back();
      double error = 1 + 10 * uniform();
      for (std::size_t k = 0; k < candidates; ++k, error *= 0.3 + 0.6 * uniform()) {
        errors[l].push_back(error);
        sizes[l].push_back(std::floor(1 + 20 * uniform()));
      }
    }
    const std::vector<std::size_t> reference(layers, candidates / 2);
    const auto answer = allocate_error(errors, sizes, reference, alpha, buckets);

    double budget = 0;
    for (std::size_t l = 0; l < layers; ++l) budget += errors[l][reference[l]];
    budget *= alpha;
    const auto parts = [&](double error) {
      return std::clamp(std::ceil(std::min(error, budget + 1) / (budget / static_cast<double>(buckets))), 1.0,
                        static_cast<double>(buckets));
    };
    double best = std::numeric_limits<double>::infinity(), least_parts = best;
    std::vector<std::size_t> choice(layers, 0);
    for (bool more = true; more;) {
      double size = 0, sum = 0;
      for (std::size_t l = 0; l < layers; ++l) {
        size += sizes[l][choice[l]];
        sum += parts(errors[l][choice[l]]);
      }
      if (sum <= static_cast<double>(buckets) - 1 && (size < best || (size == best && sum < least_parts))) {
        best = size;
        least_parts = sum;
      }
      more = false;
      for (std::size_t l = 0; l < layers && !more; ++l) {
        more = ++choice[l] < candidates;
        if (!more) choice[l] = 0;
      }
    }
    INFO("trial " << trial);
    REQUIRE(answer.feasible == std::isfinite(best));
    if (!answer.feasible) {
      CHECK(answer.chosen == reference);
      continue;
    }
    double size = 0, sum = 0;
    for (std::size_t l = 0; l < layers; ++l) {
      size += sizes[l][answer.chosen[l]];
      sum += parts(errors[l][answer.chosen[l]]);
    }
    CHECK(size == best);
    CHECK(answer.size == best);
    CHECK(sum == least_parts);
  }
}

TEST_CASE("without valid statistics the reference stays", "[unit][policy]") {
  const Table sizes{{1, 2}, {1, 2}};
  CHECK(allocate_error({}, {}, {}, 1).chosen.empty());
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
    CHECK(allocate_error({{1, bad}, {2, 1}}, sizes, {1, 1}, 1).chosen == std::vector<std::size_t>{1, 1});
  }
  CHECK_FALSE(allocate_error({{0, 0}, {0, 0}}, sizes, {1, 1}, 1).feasible);
}

TEST_CASE("errors of candidates are what compression leaves out", "[unit][policy]") {
  const auto x = at::arange(1, 9, at::kFloat) * at::tensor({1, -1, 1, -1, 1, -1, 1, -1});
  const std::vector<std::int64_t> counts{1, 3, 8};
  const auto errors = top_k_errors({x.const_data_ptr<float>(), 8}, counts);
  CHECK(errors[0] == Approx(std::sqrt(1 + 4 + 9 + 16 + 25 + 36 + 49.)));
  CHECK(errors[1] == Approx(std::sqrt(1 + 4 + 9 + 16 + 25.)));
  CHECK(errors[2] == 0);

  const std::vector<std::int64_t> bits{2, 4, 6, 8};
  const auto matrix = at::randn({40, 30}, at::detail::createCPUGenerator(3));
  for (const std::string spec : {"qsgd:bucket=64", "cgx:bucket=64"}) {
    const auto by_bits = bits_errors(matrix, spec, bits, 1, "x");
    for (std::size_t k = 0; k + 1 < by_bits.size(); ++k) CHECK(by_bits[k] > 2 * by_bits[k + 1]);
    CHECK(by_bits == bits_errors(matrix, spec, bits, 1, "x"));
  }
  // Of a matrix of rank 3, three columns are all; a subspace that is wide enough finds them.
  const auto low = at::mm(matrix.narrow(1, 0, 3), matrix.narrow(0, 0, 3));
  for (const auto method : {RankErrors::svd, RankErrors::power}) {
    const auto by_rank = rank_errors(low, std::vector<std::int64_t>{1, 2, 3, 4}, method, 1, "x");
    CHECK(by_rank[1] > 0.01 * frobenius_norm(low));
    CHECK(by_rank[2] < 1e-3 * frobenius_norm(low));
    CHECK(by_rank[3] < 1e-3 * frobenius_norm(low));
  }
  const auto bad = rank_errors(at::full({4, 4}, NAN), std::vector<std::int64_t>{1}, RankErrors::svd, 1, "x");
  CHECK(std::isnan(bad[0]));
}

TEST_CASE("fractions become ranks and bits", "[unit][policy]") {
  const Layer matrix{.name = "m", .shape = {200, 300}, .rows = 200, .cols = 300};
  const Layer vector{.name = "v", .shape = {200}, .rows = 200, .cols = 1};
  CHECK(level_of_fraction(0.1, matrix, Knob::rank).value_or(0) == 12);  // 0.1 * 60000 / 500
  CHECK(level_of_fraction(0.001, matrix, Knob::rank).value_or(0) == 1);
  CHECK(level_of_fraction(0.1, vector, Knob::rank).value_or(0) == 0);
  CHECK(level_of_fraction(1, matrix, Knob::rank).value_or(0) == 0);
  CHECK(level_of_fraction(0.1, matrix, Knob::bits).value_or(0) == 3);
  CHECK(level_of_fraction(0.01, matrix, Knob::bits).value_or(0) == 2);
  CHECK(level_of_fraction(0.5, matrix, Knob::bits).value_or(0) == 8);
  CHECK(level_of_fraction(0.37, vector, Knob::ratio).value_or(0) == 0.37);
}

TEST_CASE("LEGACY by epochs and by steps", "[unit][policy]") {
  auto setting = setting_for("topk");
  const auto by_size =
      PolicySpec("layer-size:group_splits=300/1000,group_compressions=100/10/1").make(setting);
  CHECK(levels(*by_size, {}) == std::vector<double>{0.1, 0.01, 0});
  const auto by_epoch = PolicySpec("epoch:group_compressions=1/10/50").make(setting);
  CHECK(by_epoch->counts_epochs());
  CHECK(levels(*by_epoch, {.step = 999, .epoch = 9})[0] == 0.01);
  CHECK(levels(*by_epoch, {.step = 1000, .epoch = 10})[0] == 0.1);
  CHECK(levels(*by_epoch, {.step = 9999, .epoch = 99})[0] == 0.5);
  const auto by_step = PolicySpec("epoch:group_compressions=1/10/50,clock=step").make(setting);
  CHECK_FALSE(by_step->counts_epochs());
  CHECK(levels(*by_step, {.step = 999})[0] == 0.01);
  CHECK(levels(*by_step, {.step = 1000})[0] == 0.1);
  setting = setting_for("topk", false);
  setting.steps = 30;
  CHECK(levels(*PolicySpec("mix:group_compressions=10/1;1/0.1").make(setting), {.step = 15}) ==
        std::vector<double>{0.01, 0.001, 0.01});
}

TEST_CASE("warm-up is dense on any policy, and afterwards the policy's own", "[unit][policy]") {
  const auto lgreco = PolicySpec("lgreco:warmup=5").make(setting_for("powersgd:rank=4,min_rate=0"));
  CHECK(levels(*lgreco, {.step = 4}) == std::vector<double>{0, 0, 0});
  CHECK(levels(*lgreco, {.step = 5}) == std::vector<double>{4, 4, 0});
  const auto sign = PolicySpec("uniform:warmup=5").make(setting_for("signsgd"));
  CHECK(levels(*sign, {.step = 0}) == std::vector<double>{0, 0, 0});
  CHECK(std::isnan(levels(*sign, {.step = 5})[0]));
}

TEST_CASE("what dense steps of the warm-up took is no measure of the policy's", "[unit][policy]") {
  const auto policy = PolicySpec("gravac:warmup=3,window=2,interval=5").make(setting_for("topk"));
  const auto steps = [&] { return policy->state().at("controller")[2]; };
  Observations seen;
  CHECK(policy->plan(seen).probes.empty());  // nobody would look at them
  seen.measured = StepMeasure{.seconds = 1, .raw = 1, .input = 1, .kept = {0.5, 0.4}};
  for (seen.moment.step = 1; seen.moment.step <= 3; ++seen.moment.step) policy->plan(seen);
  CHECK(steps() == 0);
  CHECK(policy->plan(seen).probes.size() == 2);  // step 3 was the first compressed one
  CHECK(steps() == 1);
}

TEST_CASE("LEGACY with Accordion: the larger of both", "[unit][policy]") {
  const auto policy =
      PolicySpec(
          "layer-size:group_splits=1000,group_compressions=20/1+accordion:high=0.1,low=0.001,period=10")
          .make(setting_for("topk"));
  CHECK(levels(*policy, {}) == std::vector<double>{0.2, 0.1, 0.2});
  Observations seen;
  seen.moment.step = 10;
  seen.norms = {1, 1, 1};
  policy->plan(seen);
  seen.moment.step = 20;
  const auto plan = policy->plan(seen);
  CHECK(numbers(plan.levels) == std::vector<double>{0.2, 0.01, 0.2});
  const auto again =
      PolicySpec(
          "layer-size:group_splits=1000,group_compressions=20/1+accordion:high=0.1,low=0.001,period=10")
          .make(setting_for("topk"));
  again->load_state(policy->state());
  CHECK(again->state() == policy->state());
  // Bursts are seen by the norms of probes.
  const auto bursts =
      PolicySpec(
          "layer-size:group_splits=1000,group_compressions=20/1+accordion:form=gravac,high=0.1,low=0.001")
          .make(setting_for("topk"));
  CHECK(bursts->request({}).every_step);
  CHECK(bursts->plan({}).probes.size() == 1);
}

TEST_CASE("an epoch that begins at a decision does not decide again", "[unit][policy]") {
  const auto policy = PolicySpec("epoch:group_compressions=1/1+accordion:high=0.5,low=0.1,period=5")
                          .make(setting_for("topk"));
  Observations seen;
  for (const double norm : {1.0, 3.0}) {  // both critical: the first, and three times the first
    seen.moment = {.step = seen.moment.step + 5};
    REQUIRE(policy->request(seen.moment).norms);
    seen.norms = {norm, norm, norm};
    CHECK(numbers(policy->plan(seen).levels) == std::vector<double>{0.5, 0.5, 0.5});
  }
  seen.moment = {.step = 10, .epoch = 1, .new_epoch = true};  // start_epoch(1)
  CHECK_FALSE(policy->request(seen.moment).norms);
  CHECK(numbers(policy->plan(seen).levels) == std::vector<double>{0.5, 0.5, 0.5});
}

TEST_CASE("Accordion's forms have their own defaults, and what is given stays", "[unit][policy]") {
  // Of a norm that grows by 30 %.
  const auto after_growth = [](const std::string& keys) {
    const auto policy = PolicySpec("accordion:form=gravac,window=1" + keys).make(setting_for("topk"));
    Observations seen;
    CHECK(levels(*policy, {})[0] == 0.25);
    for (const double norm : {1.0, 1.3}) {
      ++seen.moment.step;
      seen.measured = StepMeasure{.raw = norm};
      policy->plan(seen);
    }
    return levels(*policy, seen.moment)[0];
  };
  CHECK(after_growth("") == 0.99);
  CHECK(after_growth(",threshold=0.5") == 0.25);
  const auto hook = [](const std::string& keys) {
    const auto policy = PolicySpec("accordion:form=hook,period=20" + keys).make(setting_for("topk"));
    std::size_t added = 0;
    for (std::uint64_t step = 0; step < 20; ++step)
      added += policy->request({.step = step}).accumulate == Accumulate::inputs;
    return added;
  };
  CHECK(hook("") == 10);
  CHECK(hook(",window=0") == 20);
}

TEST_CASE("L-GreCo: window, delay, adaptation, levels", "[unit][policy]") {
  const auto policy =
      PolicySpec("lgreco:start=20,interval=30,window=10,delay=2").make(setting_for("acpsgd:rank=4"));
  std::vector<std::uint64_t> added, begun, adapted, restarted;
  for (std::uint64_t step = 0; step < 115; ++step) {
    const auto request = policy->request({.step = step});
    if (request.accumulate == Accumulate::inputs) added.push_back(step);
    if (request.restart) restarted.push_back(step);
    if (request.begin_errors) begun.push_back(step);
    if (request.errors) adapted.push_back(step);
  }
  CHECK(restarted == std::vector<std::uint64_t>{38, 68, 98});
  CHECK(begun == std::vector<std::uint64_t>{48, 78, 108});
  CHECK(adapted == std::vector<std::uint64_t>{50, 80, 110});
  CHECK(added.size() == 30);
  CHECK(added[9] == 47);

  Observations seen;
  seen.moment.step = 50;
  // fc hardly needs a rank, conv does: norm, then ranks 2 .. 8.
  seen.errors = {{10, 9, 8, 7, 3, 2, 1, 0.5}, {10, 1.2, 1.1, 1, .9, .8, .7, .6}, {}};
  auto plan = policy->plan(seen);
  CHECK(plan.levels[1].value() == 2);
  CHECK(plan.levels[0].value() >= 4);
  CHECK_FALSE(plan.levels[2].has_value());
  seen.moment.step = 80;
  seen.errors.clear();  // not valid: the last choice goes on
  CHECK(numbers(policy->plan(seen).levels) == numbers(plan.levels));
  const auto again = PolicySpec("lgreco:start=20,interval=30").make(setting_for("acpsgd:rank=4"));
  again->load_state(policy->state());
  CHECK(again->state() == policy->state());
}

TEST_CASE("L-GreCo by time prefers what is quick, whole layers among it", "[unit][policy]") {
  const auto spec = PolicySpec("lgreco:start=0,interval=20,objective=time");
  const auto policy = spec.make(setting_for("powersgd:rank=4,min_rate=0"));
  CHECK(policy->wants_costs());
  Observations seen;
  seen.moment.step = 20;
  seen.errors = {{10, 9, 8, 7, 3, 2, 1, 0.5}, {10, 9, 8, 7, 3, 2, 1, 0.5}, {}};
  seen.costs = {.beta = 1e-9, .dense = 1e-9};
  CHECK_THAT(policy->plan(seen).reason, ContainsSubstring("has not been measured"));
  seen.costs.gamma = 1e-6;  // a fast network, a slow processor
  CHECK(numbers(policy->plan(seen).levels) == std::vector<double>{0, 0, 0});
  seen.costs = {.beta = 1e-5, .dense = 1e-5, .gamma = 1e-12};
  const auto slow = spec.make(setting_for("powersgd:rank=4,min_rate=0"))->plan(seen);
  CHECK(slow.levels[1].has_value());
}

TEST_CASE("a byte costs what its collective sends of it", "[unit][policy]") {
  const LinkCost link{.latency = 1e-4, .seconds_per_byte = 1e-9};
  for (const auto& [compressor, volume] :
       std::vector<std::pair<std::string, double>>{{"acpsgd:rank=4", 1.5},
                                                   {"randomk", 1.5},
                                                   {"randomk:exchange=gather", 3},
                                                   {"topk", 3},
                                                   {"topk:exchange=tree", 4},
                                                   {"qsgd:exchange=scatter", 1.5},
                                                   {"topk+qsgd", 3}}) {
    INFO(compressor);
    const auto costs = exchange_costs(link, 4, CompressorFactory(compressor, {}).exchange());
    CHECK(costs.beta == Approx(volume * 1e-9));
    CHECK(costs.dense == Approx(1.5e-9));
    CHECK_FALSE(costs.gamma);
  }
}

TEST_CASE("L-GreCo's budget with Accordion goes by levels that are candidates", "[unit][policy]") {
  const auto made = [](const std::string& accordion, const std::string& compressor) {
    return refusal("lgreco+accordion" + accordion, compressor);
  };
  CHECK(made("", "powersgd:rank=1") == "(accepted)");
  CHECK(made("", "qsgd:bits=2") == "(accepted)");
  CHECK(made(":low=4", "powersgd:rank=4") == "(accepted)");  // high is 8, and not Accordion's own 2
  CHECK_THAT(made(":high=20", "powersgd:rank=4"),
             ContainsSubstring("high=20 is none of L-GreCo's ranks, 2 to 8"));
  CHECK_THAT(made(":low=0.5", "topk:ratio=0.01"), ContainsSubstring("high=0.02 is below low=0.5"));
  CHECK_THAT(made(":high=3,low=4", "powersgd:rank=4"), ContainsSubstring("high=3 is below low=4"));
}

TEST_CASE("L-GreCo's errors are those of the method", "[unit][policy]") {
  const auto x = at::randn({200, 300}, at::detail::createCPUGenerator(3));
  const double norm = frobenius_norm(x);
  const auto row = [&](const std::string& compressor) {
    return PolicySpec("lgreco").make(setting_for(compressor))->errors(1, x);
  };
  // Own ratio 0.1 is the seventh of thirteen.
  CHECK(row("randomk:ratio=0.1")[7] == Approx(norm * std::sqrt(0.9)));
  CHECK(row("randomblock:ratio=0.1")[7] == Approx(norm * std::sqrt(0.9)));
  CHECK(row("randomk:ratio=0.1,draw=replace")[7] == Approx(norm * std::exp(-0.05)).epsilon(1e-4));
  CHECK(row("topk:ratio=0.1")[7] < 0.8 * norm);
  CHECK(row("dgc:ratio=0.1") == row("topk:ratio=0.1"));
  CHECK_THAT(refusal("lgreco", "topk:count=cat"), ContainsSubstring("count=cat"));
  CHECK_THROWS_WITH(RatioErrors("adacomp"), ContainsSubstring("has no ratio"));
  // In a hybrid whose first part has no setting the bits are the second's: norm, then bits 2 .. 8.
  const auto bits = row("threshold:value=0.1+qsgd:bits=4");
  REQUIRE(bits.size() == 8);
  for (std::size_t k = 1; k + 1 < bits.size(); ++k) CHECK(bits[k] > 1.5 * bits[k + 1]);
}

TEST_CASE("a factor's count is n / factor, rounded as the method rounds", "[unit][policy]") {
  const auto x = at::randn({98}, at::detail::createCPUGenerator(3));
  const std::span<const float> values(x.const_data_ptr<float>(), 98);
  const StepContext step;
  const Block block{"x", {98}, &step};
  const auto count = [&](const std::string& spec, double factor) {
    const auto method = make_sparsifier(parse_spec(spec).at(0));
    Selection all, level, own;
    method->set_ratio(1);
    method->select(values, values, block, all);
    method->narrow(values, block, 1 / factor, all, level);
    method->set_ratio(1 / factor);
    method->select(values, values, block, own);
    CHECK(level.indices == own.indices);
    return level.indices.size();
  };
  CHECK(98 * (1.0 / 49) < 2);  // so a product would do
  CHECK(count("topk", 49) == 2);
  CHECK(count("topk:rounding=up", 49) == 2);
  CHECK(count("topk:rounding=up", 50) == 2);
  CHECK(count("topk", 50) == 1);
  CHECK(kept_count(98, 1.0 / 49, false) == 2);
  CHECK(kept_count(100, 0.29, false) == 28);  // no factor: the product of doubles, 28.999...
}

TEST_CASE("L-GreCo's candidates", "[unit][policy]") {
  CHECK(lgreco_candidates(setting_for("powersgd:rank=4"), 2, 0.5).levels ==
        std::vector<double>{2, 3, 4, 5, 6, 7, 8});
  CHECK(lgreco_candidates(setting_for("powersgd:rank=1"), 2, 0.5).levels == std::vector<double>{1, 2});
  const auto ratios = lgreco_candidates(setting_for("topk:ratio=0.3"), 2, 0.5);
  CHECK(ratios.levels.size() == 10);
  CHECK(ratios.levels[ratios.reference] == 0.3);
  const auto bits = lgreco_candidates(setting_for("qsgd:bits=4"), 2, 0.5);
  CHECK(bits.levels[bits.reference] == 4);
}

TEST_CASE("GraVAC where no vector reaches", "[unit][policy]") {
  CHECK(gravac_ladder(10, 100, 2) == std::vector<double>{10, 20, 40, 80, 100});
  CHECK(gravac_ladder(10, 10, 2) == std::vector<double>{10});
  GravacSettings settings;
  settings.ladder = {10, 20, 40};
  settings.epsilon = 0.75;
  settings.window = 2;
  settings.interval = 3;
  GravacController controller(settings);
  controller.decide(1, 0.9, 0.75);
  controller.finish(1);
  auto decision = controller.decide(1, 0.9, 0.75);
  CHECK(decision.label == GravacLabel::current);  // a gain of exactly epsilon
  CHECK(decision.factor == 20);
  controller.finish(1);
  for (const double bad : {0.0, std::nan(""), static_cast<double>(INFINITY)}) {
    GravacController copy(settings);
    copy.load_state(controller.state());
    const auto answer = copy.decide(bad, 0.9, 0.8);
    CHECK(answer.label == GravacLabel::dense);
    CHECK_FALSE(answer.gain);
    CHECK(copy.state().at("raw") == controller.state().at("raw"));
    CHECK(copy.steps() == 3);
  }
  // Equal throughputs: the larger factor, even with omega 0 excluded by the strict comparison.
  settings.omega = 0.5;
  GravacController equal(settings);
  std::string event;
  for (int step = 1; event.empty(); ++step) {
    REQUIRE(step < 30);
    const bool first = equal.candidate() == 20 && step % 2 == 0;  // both factors are sent
    const auto sent = equal.decide(1, 1, first ? 0.1 : 1.0);
    event = equal.finish(sent.gain ? std::optional(1.0 / *sent.gain) : std::nullopt);
    if (event == "NEXT") event.clear();
  }
  CHECK(event == "OMEGA");
  CHECK(equal.candidate() == 40);
  // What was measured for another candidate does not count.
  GravacController stale(settings);
  stale.decide(1, 0.9, std::nullopt);
  stale.finish({});
  CHECK(stale.decide(1, 0.9, 0.9).label == GravacLabel::min);
}

TEST_CASE("norms that are not finite make a layer critical and are forgotten", "[unit][policy]") {
  CriticalRegimes regimes(0.5);
  regimes.decide({4, 4});
  CHECK(regimes.decide({NAN, 4}) == std::vector<bool>{true, false});
  CHECK(regimes.decide({4, 2}) == std::vector<bool>{false, true});  // exactly the threshold is critical
  CHECK(regimes.before() == std::vector<double>{4, 2});
}

TEST_CASE("each bad specification is one line that names key and rule", "[unit][policy]") {
  const std::vector<std::array<std::string, 3>> bad{
      {"layer-size:group_compressions=1/2/3", "topk", "1 group_splits make 2 groups, and a row has 3"},
      {"layer-size:group_splits=100/10,group_compressions=1/2/3", "topk", "the sizes must ascend"},
      {"layer-size:group_splits=1e4", "topk", "\"1e4\" is not a whole number of elements"},
      {"layer-size:group_compressions=0/1", "topk", "\"0\" is not a percentage above 0 up to 100"},
      {"layer-size:group_compressions=101/1", "topk", "\"101\""},
      {"epoch:group_compressions=1/x", "topk", "\"x\""},
      {"size-epoch:group_compressions=10/1;1", "topk", "a row has 1"},
      {"gravac:epsilon=1.5", "topk", "epsilon=1.5"},
      {"gravac:epsilon=0", "topk", "epsilon=0"},
      {"gravac:interval=20", "topk", "interval=20 must be longer than window=25"},
      {"gravac:ladder=10/5", "topk", "factors must ascend"},
      {"gravac:theta_min=10,theta_max=5", "topk", "theta_max=5 is below theta_min=10"},
      {"gravac", "powersgd", "sets ratio; the compressor \"powersgd\" has rank"},
      {"lgreco", "signsgd", "has no such setting"},
      {"lgreco:interval=5", "powersgd", "do not fit into interval=5"},
      {"lgreco:objectiv=time", "powersgd", "did you mean \"objective\"?"},
      {"lgreco:objective=bytes", "powersgd", "known: size, time"},
      {"lgreco+gravac", "topk", "cannot be followed by \"gravac\"; what can: accordion"},
      {"lgreco+accordion:period=5", "powersgd", "period has no meaning there"},
      {"lgreco+accordion+accordion", "powersgd", "at most two"},
      {"accordion:high=1,low=2", "powersgd", "high=1 is below low=2"},
      {"accordion:period=ten", "powersgd", "period=ten is neither"},
      {"accordion:period=5e,clock=step", "powersgd", "give period in steps"},
      {"accordion:period=20,window=30", "powersgd", "window=30 is longer than period=20"},
      {"accordion:form=gravac", "powersgd", "needs a compressor with a ratio"},
      {"accordion:form=gravac,period=5", "topk", "period has no meaning with form=gravac"},
      {"accordion:form=gravac,lr_rule=off", "topk", "lr_rule has no meaning"},
      {"accordion:form=gravac,window=1000000", "topk", "window=1000000"},
      {"accordion:alpha=0.5", "topk", "alpha has no meaning with form=accordion"},
      {"accordion:form=reducer,window=5", "topk", "window has no meaning"},
      {"lgreco+accordion:alpha=0.5", "topk", "alpha has no meaning there"},
      {"gravac:window=1000000,interval=2000000", "topk", "window=1000000"},
      {"uniform:group_compressions=1", "signsgd", "has no such setting"},
      {"lgrecco", "powersgd", "did you mean \"lgreco\"?"},
      {"uniform:warmup=-1", "topk", "warmup=-1 is not a whole number"}};
  for (const auto& [policy, compressor, text] : bad) {
    INFO(policy << " with " << compressor);
    const auto message = refusal(policy, compressor);
    CHECK_THAT(message, ContainsSubstring(text));
    CHECK(message.find('\n') == std::string::npos);
  }
  // What the run does not tell is asked for by its call.
  CHECK_THAT(refusal("epoch", "topk", false),
             ContainsSubstring("Options::epochs(n)") && ContainsSubstring("Options::steps(n)"));
  CHECK_THAT(refusal("epoch:clock=step", "topk", false), ContainsSubstring("Options::steps(n)"));
  CHECK_THAT(refusal("accordion", "topk", false), ContainsSubstring("Options::steps_per_epoch(n)"));
  CHECK(refusal("accordion:period=50", "topk", false) == "(accepted)");
}

TEST_CASE("every policy is made at its defaults", "[unit][policy]") {
  std::set<std::string> names;
  for (const auto* info : policies()) {
    names.insert(info->name);
    INFO(info->name);
    const auto policy = PolicySpec(info->name).make(setting_for("topk"));
    CHECK(policy->request({}).errors == false);
    Observations seen;
    const auto plan = policy->plan(seen);
    CHECK((plan.levels.empty() || plan.levels.size() == 3));
    policy->load_state(policy->state());
  }
  CHECK(names.contains("layer-size"));
  CHECK(PolicySpec("mix").text() == "size-epoch");
  CHECK(PolicySpec("size_epoch:group-compressions=1/2;1/2").text() ==
        "size-epoch:group_compressions=1/2;1/2");
  CHECK(PolicySpec("").fixed());
}
