// See options.h.
#include "benchmarks/acp-train/options.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "adaptive/policy.h"
#include "benchmarks/acp-train/presets.h"
#include "benchmarks/common/lr_schedule.h"
#include "benchmarks/common/optimizers.h"
#include "comm/error.h"
#include "compressors/registry.h"
#include "compressors/text.h"
#include "models/data_set.h"
#include "models/model.h"

namespace acp::programs {

namespace {

constexpr auto most = std::numeric_limits<std::int64_t>::max();
constexpr auto infinity = std::numeric_limits<double>::infinity();

using Action = TrainOptions::Action;

Action action_of(const CommandLine& line) {
  if (line.flag("help")) return Action::help;
  if (line.flag("version")) return Action::version;
  if (line.flag("list-models")) return Action::list_models;
  if (line.flag("list-presets")) return Action::list_presets;
  if (line.given("check-data")) return Action::check_data;
  return Action::train;
}

// What a user gets who names the model and nothing else.
Settings recipe(const models::TrainingDefaults& defaults) {
  return {{"optimizer", defaults.optimizer},
          {"lr", fmt::format("{}", defaults.learning_rate)},
          {"momentum", fmt::format("{}", defaults.momentum)},
          {"weight-decay", fmt::format("{}", defaults.weight_decay)},
          {"clip", fmt::format("{}", defaults.clip)},
          {"lr-schedule", defaults.schedule},
          {"batch-size", fmt::format("{}", defaults.batch_size)},
          {"eval-batch-size", fmt::format("{}", defaults.eval_batch_size)},
          {"epochs", fmt::format("{}", defaults.epochs)}};
}

bool optimizers_own(const std::string& name) {
  return name == "lr" || name == "momentum" || name == "weight-decay";
}

// What the compressor needs in place of the model's recipe.
Settings recipe(const CompressorFactory& factory) {
  Settings settings;
  if (factory.recipe().lr) settings.emplace_back("lr", fmt::format("{}", *factory.recipe().lr));
  if (factory.recipe().momentum)
    settings.emplace_back("momentum", fmt::format("{}", *factory.recipe().momentum));
  return settings;
}

// The user's word first, then the preset's, then the compressor's recipe, then the model's, then the table's.
// A compressor that the user names comes before the preset, which was made for another. Rate, momentum and
// decay are meant for the optimizer beside them: the model's are left out when the preset has another, both
// when the user takes another.
void fill_defaults(CommandLine& line, TrainOptions& options) {
  const auto preset = line.given("preset") ? find_preset(line.text("preset")).settings : Settings{};
  for (const auto& [name, value] : preset) {
    if (name == "model" || name == "compressor") line.set_default(name, value);
  }
  const auto& defaults = models::choose_model(line.text("model")).info->defaults;
  Settings all = recipe(defaults);
  const auto& chosen = std::ranges::find(preset, "optimizer", &Settings::value_type::first);
  if (chosen != preset.end() &&
      find_optimizer(chosen->second).name != find_optimizer(defaults.optimizer).name) {
    std::erase_if(all, [](const auto& setting) { return optimizers_own(setting.first); });
  }
  const auto end_of_model = static_cast<std::ptrdiff_t>(all.size());
  all.insert(all.end(), preset.begin(), preset.end());
  for (const auto& [name, value] : all) {
    if (name == "optimizer") line.set_default(name, value);
  }
  const auto planned = find_optimizer(line.option_default("optimizer")).name;
  const auto taken = find_optimizer(line.text("optimizer")).name;
  Settings own;
  if (taken == "sgd") own = recipe(CompressorFactory(line.text("compressor"), {}));
  all.insert(line.given("compressor") ? all.end() : all.begin() + end_of_model, own.begin(), own.end());
  for (const auto& [name, value] : all) {
    if (taken == planned || !optimizers_own(name)) line.set_default(name, value);
  }
  if (taken != planned) {
    for (const auto& [name, value] : own) line.set_default(name, value);
  }
  for (const auto& [name, value] : own) {
    if (line.given(name) || line.text(name) != value) continue;
    options.notes.push_back(fmt::format("--{} {}: the recipe of {}", name, value, line.text("compressor")));
  }
}

// --model with --seq-len as its key `seq`.
std::string read_model(const CommandLine& line) {
  auto choice = models::choose_model(line.text("model"));
  if (line.text("seq-len").empty()) return choice.spec.to_string();
  const auto length = fmt::format("{}", line.integer("seq-len", 1, 1 << 20));
  const auto& keys = choice.info->keys;
  const bool has_key = std::ranges::find(keys, "seq", &KeyInfo::name) != keys.end();
  // A preset's length gives way to another model and to the model's own key.
  if (!line.given("seq-len") && (!has_key || choice.spec.values.contains("seq")))
    return choice.spec.to_string();
  if (!has_key) {
    throw ConfigError(
        fmt::format("--seq-len {}: the model {} takes no sequences", length, choice.info->name));
  }
  if (const auto own = choice.spec.values.find("seq");
      own != choice.spec.values.end() && own->second != length) {
    throw ConfigError(
        fmt::format("--seq-len {} and --model {}: give one of them", length, line.text("model")));
  }
  choice.spec.values["seq"] = length;
  return choice.spec.to_string();
}

// A preset's set gives way to one that --data names, so that `--data synthetic` goes with every
// preset.
std::string read_data_set(const CommandLine& line) {
  const auto& name = line.text("data-set");
  if (name.empty()) return {};
  if (name.find(':') != std::string::npos) {
    throw ConfigError(fmt::format(
        "--data-set {}: a name alone; keys go with --data, as in ACP_DATA=DIR acp-train --data {}", name,
        name));
  }
  const auto& set = models::find_data_set(name);
  const auto& taken = models::choose_model(line.text("model")).info->data_sets;
  if (std::ranges::find(taken, set.name) == taken.end()) {
    throw ConfigError(fmt::format("--data-set {}: the model takes {}", name, join(taken)));
  }
  const char* variable = std::getenv("ACP_DATA");
  const std::string data = line.given("data") || variable == nullptr ? line.text("data") : variable;
  for (const auto* each : models::data_sets()) {
    if (!line.given("data-set") && each->name == data.substr(0, data.find(':'))) return {};
  }
  return set.name;
}

void read_job(const CommandLine& line, TrainOptions& options) {
  options.preset = line.text("preset").empty() ? "" : find_preset(line.text("preset")).name;
  options.model = read_model(line);
  options.data = line.text("data");
  options.data_set = read_data_set(line);
  options.augment = !line.flag("no-augment");
  if (line.given("epochs") && line.given("iterations")) {
    throw ConfigError("--epochs and --iterations: give one of them");
  }
  if (line.given("iterations") || (!line.given("epochs") && !line.text("iterations").empty())) {
    options.iterations = line.integer("iterations", 1, most);
  } else {
    options.epochs = line.integer("epochs", 1, 1'000'000);
  }
  options.warmup = line.integer("warmup", 0, most);
  options.batch_size = line.integer("batch-size", 1, 1 << 24);
  options.eval_batch_size = line.integer("eval-batch-size", 1, 1 << 24);
  options.test_batch_size = options.eval_batch_size;
  if (!line.text("test-batch-size").empty())
    options.test_batch_size = line.integer("test-batch-size", 1, 1 << 24);
  options.eval_every = line.integer("eval-every", 0, most);
  options.evaluate = !line.flag("no-eval");
  options.seed = static_cast<std::uint64_t>(line.integer("seed", 0, most));
}

// "bias,norm"
std::vector<std::string> read_no_decay(const CommandLine& line) {
  const auto& text = line.text("no-decay");
  if (text.empty()) return {};
  auto kinds = pieces(text, ',');
  for (const auto& kind : kinds) {
    if (kind == "bias" || kind == "norm") continue;
    throw ConfigError(
        fmt::format("--no-decay {}: \"{}\" is unknown{}; known: bias, norm, or both as bias,norm", text, kind,
                    suggestion(kind, {"bias", "norm"})));
  }
  return kinds;
}

void read_optimizer(const CommandLine& line, TrainOptions& options) {
  options.optimizer = check_optimizer(line.text("optimizer"));
  const auto& info = find_optimizer(options.optimizer);
  options.lr = line.text("lr").empty() ? info.lr : line.number("lr", 0, infinity);
  options.scale_lr = line.flag("scale-lr");
  if (!line.text("momentum").empty()) options.momentum = line.number("momentum", 0, 1);
  if (!line.text("weight-decay").empty()) options.weight_decay = line.number("weight-decay", 0, infinity);
  make_optimizer(options.optimizer, {at::zeros({1})}, {options.lr, options.momentum, options.weight_decay});
  options.no_decay = read_no_decay(line);
  options.label_smoothing = line.number("label-smoothing", 0, 0.999);
  const LrSchedule schedule(line.text("lr-schedule"), {});
  options.lr_schedule = schedule.spec();
  for (const auto* name : {"lr", "scale-lr"}) {
    if (!line.given(name) || schedule.uses_base_rate()) continue;
    throw ConfigError(
        fmt::format("--{}: the schedule {} has rates of its own; change its value=, or name another, such as "
                    "--lr-schedule constant",
                    name, options.lr_schedule));
  }
  if (schedule.listens() && !options.evaluate) {
    throw ConfigError("--no-eval: the schedule plateau waits for evaluations; name another --lr-schedule");
  }
  options.lr_warmup = line.text("lr-warmup");
  lr_warmup_steps(options.lr_warmup, 1);
  options.clip = line.number("clip", 0, infinity);
}

// The dgc memory contains the momentum; with the optimizer's own beside it gradients would be accelerated
// twice.
void drop_momentum(const CompressorFactory& factory, TrainOptions& options) {
  const auto momentum = options.momentum ? options.momentum : find_optimizer(options.optimizer).momentum;
  if (factory.memory_momentum() == 0 || momentum.value_or(0) == 0) return;
  options.notes.push_back(fmt::format("momentum {} of {} is set to 0: the error memory dgc has its own, {}",
                                      *momentum, options.optimizer, factory.memory_momentum()));
  options.momentum = 0;
  try {
    make_optimizer(options.optimizer, {at::zeros({1})}, {options.lr, options.momentum, options.weight_decay});
  } catch (const ConfigError& error) {  // Nesterov's
    throw ConfigError(fmt::format("{} ({}; --memory residual has none)", error.what(), options.notes.back()));
  }
}

// --policy, with LEGACY's own options as keys of it.
std::string policy_of(const CommandLine& line) {
  auto text = line.text("policy");
  for (const auto& [option, key] :
       {std::pair{"group-splits", "group_splits"}, {"group-compressions", "group_compressions"}}) {
    if (!line.given(option)) continue;
    auto parts = parse_spec(text);
    auto value = line.text(option);
    std::ranges::replace(value, ',', '/');
    parts[0].values[key] = value;
    text.clear();
    for (const auto& part : parts) {
      if (!text.empty()) text += '+';
      text += part.to_string();
    }
  }
  return PolicySpec(text).text();
}

void read_fusion(const CommandLine& line, Options& reduction) {
  if (line.text("fusion-mb") == "auto") {
    reduction.fusion_mb("auto");
    return;
  }
  try {
    reduction.fusion_mb(line.number("fusion-mb", 0, 1e6));
  } catch (const ConfigError& error) {
    throw ConfigError(std::string(error.what()) + ", or auto");
  }
}

void read_reduction(const CommandLine& line, TrainOptions& options) {
  const auto memory = line.text("memory");
  const auto granularity = line.text("granularity");
  const CompressorFactory factory(line.text("compressor"), {memory, options.seed, granularity});
  options.algorithm = line.choice("algorithm", algorithm_names());
  options.backend = line.choice("backend", {"auto", "mpi", "tcp", "nccl", "local"});
  options.device = line.choice("device", {"cpu", "cuda"});
  if (!line.given("device")) options.device.clear();
  options.reduction.compressor(factory.spec())
      .memory(memory)
      .granularity(granularity)
      .nonfinite(line.choice("nonfinite", {"auto", "error", "skip"}))
      .policy(policy_of(line))
      .overlap(!line.flag("no-overlap"))
      .algorithm(options.algorithm)
      .backward_passes_per_step(static_cast<int>(line.integer("backward-passes", 1, 1 << 20)))
      .seed(options.seed)
      .clip_local(line.number("clip-local", 0, infinity))
      .compression_error(line.flag("compression-error"));
  read_fusion(line, options.reduction);
  options.reduction.check();
  drop_momentum(factory, options);
}

void read_files(const CommandLine& line, TrainOptions& options) {
  options.checkpoint = line.text("checkpoint");
  options.checkpoint_every = line.integer("checkpoint-every", 0, most);
  options.resume = line.flag("resume");
  for (const auto* name : {"resume", "checkpoint-every"}) {
    if (line.given(name) && options.checkpoint.empty()) {
      throw ConfigError(fmt::format("--{} needs --checkpoint DIR", name));
    }
  }
  if (const auto& optimizer = find_optimizer(options.optimizer);
      !options.checkpoint.empty() && !optimizer.savable) {
    throw ConfigError(
        fmt::format("--checkpoint: libtorch cannot save the optimizer {} once it has stepped; leave "
                    "--checkpoint out or take another optimizer",
                    optimizer.name));
  }
  options.metrics = line.text("metrics");
  options.trace = line.text("trace");
  options.name = line.text("name");
  options.project = line.text("project");
  options.log_every = line.integer("log-every", 0, most);
}

}  // namespace

std::uint64_t lr_warmup_steps(const std::string& text, std::uint64_t steps_per_epoch) {
  const bool epochs = !text.empty() && (text.back() == 'e' || text.back() == 'E');
  const auto digits = epochs ? text.substr(0, text.size() - 1) : text;
  double value = 0;
  const auto* end = digits.data() + digits.size();
  const auto [stop, code] = std::from_chars(digits.data(), end, value);
  const bool whole = epochs || value == std::floor(value);
  if (code != std::errc() || stop != end || !(value >= 0 && value < 1e12) || !whole) {
    throw ConfigError(fmt::format("--lr-warmup {}: must be a number of steps, or of epochs as in 5e", text));
  }
  return static_cast<std::uint64_t>(
      std::llround(epochs ? value * static_cast<double>(steps_per_epoch) : value));
}

TrainOptions parse_train_options(int argc, const char* const* argv, std::string& help) {
  CommandLine line("acp-train",
                   "Trains a model on all ranks and measures it. Alone or under mpirun, torchrun, ...",
                   train_option_table());
  line.parse(argc, argv);
  TrainOptions options;
  options.action = action_of(line);
  options.json = line.text("json");
  options.quiet = line.flag("quiet");
  if (options.action == Action::help) help = line.help();
  if (options.action == Action::check_data) options.data = line.text("check-data");
  if (options.action != Action::train) return options;

  fill_defaults(line, options);
  read_job(line, options);
  read_optimizer(line, options);
  read_reduction(line, options);
  read_files(line, options);
  return options;
}

}  // namespace acp::programs
