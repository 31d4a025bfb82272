// See options.h.
#include "benchmarks/acp-comm/options.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <map>

#include "acp/options.h"
#include "comm/error.h"
#include "compressors/registry.h"
#include "compressors/text.h"
#include "models/model.h"

namespace acp::programs {

namespace {

using Kind = Collective::Kind;

constexpr std::int64_t most_bytes = std::int64_t{1} << 40;

const std::map<std::string, at::ScalarType>& types() {
  static const std::map<std::string, at::ScalarType> known{
      {"float32", at::kFloat}, {"float64", at::kDouble}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16},
      {"int32", at::kInt},     {"int64", at::kLong},     {"uint8", at::kByte}};
  return known;
}

const std::map<std::string, ReduceOp>& reductions() {
  static const std::map<std::string, ReduceOp> known{
      {"sum", ReduceOp::sum}, {"average", ReduceOp::average}, {"min", ReduceOp::min}, {"max", ReduceOp::max}};
  return known;
}

template <class Value>
const std::string& name_in(const std::map<std::string, Value>& table, Value value) {
  return std::ranges::find(table, value, &std::pair<const std::string, Value>::second)->first;
}

template <class Map>
std::vector<std::string> names_of(const Map& map) {
  std::vector<std::string> result;
  result.reserve(map.size());
  for (const auto& entry : map) result.push_back(entry.first);
  return result;
}

std::vector<Kind> parse_ops(const std::string& text) {
  std::vector<Kind> known{Kind::all_reduce, Kind::all_gather, Kind::reduce_scatter, Kind::broadcast,
                          Kind::all_to_all};
  if (text == "all") return known;
  std::vector<std::string> names;
  names.reserve(known.size());
  for (const auto kind : known) names.emplace_back(to_string(kind));
  std::vector<Kind> result;
  for (auto name : pieces(text, '/')) {
    std::replace(name.begin(), name.end(), '-', '_');
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      throw ConfigError(
          fmt::format("--op {}: unknown operation{}; known: {}, and all; several with / between", name,
                      suggestion(name, names), join(names)));
    }
    result.push_back(known[static_cast<std::size_t>(found - names.begin())]);
  }
  if (result.empty()) throw ConfigError("--op: none given");
  return result;
}

void parse_sizes(const CommandLine& line, CommOptions& options) {
  const auto min = parse_bytes("min", line.text("min")), max = parse_bytes("max", line.text("max"));
  if (max < min) {
    throw ConfigError(fmt::format("--max {} is less than --min {}", line.text("max"), line.text("min")));
  }
  const auto factor = line.integer("factor", 2, 1'000'000);
  for (auto size = min; size <= max; size *= factor) options.sizes.push_back(size);
}

void parse_placement(const CommandLine& line, CommOptions& options) {
  const auto placement = line.choice("placement", {"both", "in", "out"});
  options.in_place = placement != "out";
  options.out_of_place = placement != "in";
  const bool has_in_place = std::any_of(options.ops.begin(), options.ops.end(), [](Kind kind) {
    return kind != Kind::reduce_scatter && kind != Kind::all_to_all;
  });
  if (!options.out_of_place && !has_in_place) {
    throw ConfigError("--placement in: reduce_scatter and all_to_all have a result of its own only");
  }
}

void parse_tensors(const CommandLine& line, CommOptions& options) {
  options.model = line.text("tensors");
  models::choose_model(options.model);
  options.fusion_mb = line.number("fusion-mb", 0, 1e6);
  if (options.fusion_mb == 0) throw ConfigError("--fusion-mb 0: without fusion it is measured anyway");
  for (const auto& text : pieces(line.text("compressors"), ' ')) {
    const auto parsed = parse_spec(text);
    for (const auto& method : parsed) {
      if (!find_method(method.name).all_reducible) {
        throw ConfigError(fmt::format(
            "--compressors {}: {} does not all-reduce; --tensors takes methods that do, as none, powersgd, "
            "acpsgd, fp16",
            text, method.name));
      }
    }
    options.compressors.push_back(CompressorFactory(text, {"", options.seed}).spec());
  }
  if (options.compressors.empty()) throw ConfigError("--compressors: none given");
}

}  // namespace

const std::string& name_of(at::ScalarType type) {
  return name_in(types(), type);
}

const std::string& name_of(ReduceOp op) {
  return name_in(reductions(), op);
}

std::int64_t parse_bytes(const std::string& option, const std::string& text) {
  auto digits = text;
  std::int64_t scale = 1;
  if (!digits.empty()) {
    switch (digits.back()) {
      case 'K':
      case 'k':
        scale = std::int64_t{1} << 10;
        break;
      case 'M':
      case 'm':
        scale = std::int64_t{1} << 20;
        break;
      case 'G':
      case 'g':
        scale = std::int64_t{1} << 30;
        break;
      default:
        break;
    }
    if (scale > 1) digits.pop_back();
  }
  const bool number =
      !digits.empty() && digits.size() <= 13 && digits.find_first_not_of("0123456789") == std::string::npos;
  const std::int64_t value = number ? std::stoll(digits) : 0;
  if (value < 1 || value > most_bytes / scale) {
    throw ConfigError(fmt::format(
        "--{} {}: must be a number of bytes from 1 to 1024G, as in 8, 64K, 128M or 1G (K, M, G are "
        "powers of 1024)",
        option, text));
  }
  return value * scale;
}

std::vector<Option> comm_option_table() {
  auto table = common_options();
  for (auto& option : table) {
    if (option.name == "seed") option.help = "of the numbers that are sent";
  }
  const std::vector<Option> own = {
      {"op", "NAMES", "all_reduce",
       "all_reduce, all_gather, reduce_scatter, broadcast, all_to_all, with / between, or all",
       "Collectives"},
      {"min", "BYTES", "1K", "smallest size; K, M, G are powers of 1024", "Collectives"},
      {"max", "BYTES", "128M", "largest size", "Collectives"},
      {"factor", "N", "4", "from one size to the next", "Collectives"},
      {"dtype", "NAME", "float32", "float32, float64, float16, bfloat16, int32, int64, uint8", "Collectives"},
      {"reduce", "NAME", "sum", "sum, average, min, max: of all_reduce and reduce_scatter", "Collectives"},
      {"root", "RANK", "0", "whose data a broadcast sends", "Collectives"},
      {"placement", "WHICH", "both", "in (result where the input was), out, both", "Collectives"},
      {"iterations", "N", "20", "measured repetitions of each row", "Measurement"},
      {"warmup", "N", "5", "repetitions before", "Measurement"},
      {"algorithm", "NAME", "auto", "auto, ring, native, doubling, halving, hierarchical", "Measurement"},
      {"backend", "NAME", "auto", "auto, mpi, tcp, nccl, local", "Measurement"},
      {"device", "NAME", "auto", "where the tensors are: cpu, cuda, auto (cuda with nccl, else cpu)",
       "Measurement"},
      {"tensors", "MODEL", "",
       "instead of sizes: what the compressors send of a model's gradients (acp-train --list-models), with "
       "and "
       "without fusion",
       "A model's gradients"},
      {"compressors", "SPECS", "none powersgd acpsgd",
       "of --tensors; specifications with spaces between them", "A model's gradients"},
      {"fusion-mb", "X", "25", "of --tensors; size of a fused message in MiB of gradient",
       "A model's gradients"},
      {"local", "", "",
       "instead of collectives: the loops that add and convert, against memcpy, in one process", "Kernels"}};
  table.insert(table.end(), own.begin(), own.end());
  return table;
}

CommOptions parse_comm_options(int argc, const char* const* argv, std::string& help) {
  CommandLine line(
      "acp-comm",
      "Measures collectives by size (time, algorithm bandwidth, bus bandwidth in Gbit/s) and checks "
      "their results. Runs under mpirun, torchrun-style variables, or alone.",
      comm_option_table());
  line.parse(argc, argv);
  CommOptions options;
  options.json = line.text("json");
  options.quiet = line.flag("quiet");
  if (line.flag("version")) options.action = CommOptions::Action::version;
  if (line.flag("help")) {
    options.action = CommOptions::Action::help;
    help = line.help();
  }
  if (options.action != CommOptions::Action::collectives) return options;

  options.seed =
      static_cast<std::uint64_t>(line.integer("seed", 0, std::numeric_limits<std::int64_t>::max()));
  options.iterations = line.integer("iterations", 1, 100'000'000);
  options.warmup = line.integer("warmup", 0, 100'000'000);
  options.algorithm = parse_algorithm(line.text("algorithm"));
  options.backend = line.choice("backend", {"auto", "mpi", "tcp", "nccl", "local"});
  options.device = line.choice("device", {"auto", "cpu", "cuda"});
  options.type = types().at(line.choice("dtype", names_of(types())));
  options.reduce = reductions().at(line.choice("reduce", names_of(reductions())));
  options.root = static_cast<int>(line.integer("root", 0, 1'000'000));
  options.ops = parse_ops(line.text("op"));
  if (options.reduce == ReduceOp::average && !at::isFloatingType(options.type)) {
    throw ConfigError(
        fmt::format("--reduce average needs a floating type, not --dtype {}", line.text("dtype")));
  }
  parse_sizes(line, options);
  parse_placement(line, options);
  if (line.given("tensors") && line.flag("local")) {
    throw ConfigError("--tensors and --local exclude each other: each is a measurement of its own");
  }
  for (const auto* name : {"compressors", "fusion-mb"}) {
    if (line.given(name) && !line.given("tensors")) {
      throw ConfigError(fmt::format("--{} is an option of --tensors MODEL, which is not given", name));
    }
  }
  const auto refuse_beside = [&](const char* other, std::initializer_list<const char*> names) {
    for (const auto* name : names) {
      if (line.given(name)) throw ConfigError(fmt::format("--{} has no meaning beside --{}", name, other));
    }
  };
  if (line.given("tensors"))
    refuse_beside("tensors", {"op", "min", "max", "factor", "dtype", "reduce", "root", "placement"});
  if (line.flag("local"))
    refuse_beside("local", {"op", "dtype", "reduce", "root", "placement", "backend", "device", "algorithm"});
  if (line.given("tensors")) {
    options.action = CommOptions::Action::tensors;
    parse_tensors(line, options);
  }
  if (line.flag("local")) options.action = CommOptions::Action::local;
  return options;
}

}  // namespace acp::programs
