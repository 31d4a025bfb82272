// See options.h.
#include "benchmarks/acp-compress/options.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "comm/error.h"
#include "compressors/registry.h"

namespace acp::programs {

namespace {

// "25M" = 25,000,000: a matrix of 25 million floats is 100M.
std::int64_t parse_size(const std::string& text) {
  constexpr std::int64_t most = 16'000'000'000;
  std::int64_t scale = 1;
  auto digits = text;
  if (!digits.empty()) {
    const char unit = digits.back();
    if (unit == 'K' || unit == 'k') scale = 1'000;
    if (unit == 'M' || unit == 'm') scale = 1'000'000;
    if (unit == 'G' || unit == 'g') scale = 1'000'000'000;
    if (scale > 1) digits.pop_back();
  }
  const bool number =
      !digits.empty() && digits.size() <= 11 && digits.find_first_not_of("0123456789") == std::string::npos;
  const std::int64_t value = number ? std::stoll(digits) : 0;
  if (value < 1 || value > most / scale || value * scale < 4) {
    throw ConfigError(fmt::format(
        "--sizes {}: sizes are bytes from 4 to 16G, as in 1M/25M/100M (K, M, G are powers of 1000)", text));
  }
  return value * scale;
}

// "0.1/0.001": two kept fractions.
std::vector<double> parse_levels(const std::string& text) {
  std::vector<double> levels;
  for (const auto& piece : pieces(text, '/')) {
    double level = 0;
    const auto [end, error] = std::from_chars(piece.data(), piece.data() + piece.size(), level);
    const bool number = error == std::errc() && end == piece.data() + piece.size();
    levels.push_back(number ? level : -1);
  }
  if (levels.empty()) return levels;
  if (levels.size() != 2 || !(levels[0] <= 1 && levels[1] > 0 && levels[1] < levels[0])) {
    throw ConfigError(fmt::format(
        "--levels {}: two kept fractions up to 1 and above 0, the larger one first, as in 0.1/0.01", text));
  }
  return levels;
}

// Every method, and the usual pairs.
std::vector<std::string> all_compressors() {
  std::vector<std::string> result;
  for (const auto* method : methods()) result.push_back(method->name);
  for (const auto* more : {"qsgd:rounding=nearest", "qsgd:bits=4", "qsgd:bits=4,rounding=nearest",
                           "cgx:bits=8", "cgx:rounding=stochastic", "topk+efsignsgd", "topk+terngrad",
                           "topk+qsgd:bits=4", "adacomp+efsignsgd"}) {
    result.emplace_back(more);
  }
  return result;
}

}  // namespace

std::vector<Option> compress_option_table() {
  auto table = common_options();
  for (auto& option : table) {
    if (option.name == "seed") option.help = "of the gradients and of the compressors";
  }
  const std::vector<Option> own = {
      {"compressors", "SPECS", "", "specifications with spaces between them (default: all methods)",
       "Measurement"},
      {"memory", "NAME", "", "error feedback: none, residual, dgc (default: each method's own)",
       "Measurement"},
      {"sizes", "LIST", "1M/25M/100M", "bytes of gradient; K, M, G are powers of 1000", "Measurement"},
      {"levels", "LIST", "",
       "two kept fractions, as in 0.1/0.01: what choosing the second from the first one's survivors costs, "
       "by "
       "choosing again from all",
       "Measurement"},
      {"iterations", "N", "7", "measured repetitions, of which the median counts", "Measurement"},
      {"warmup", "N", "2", "repetitions before", "Measurement"},
      {"threads", "N", "1", "threads of a compressor", "Measurement"},
      {"device", "NAME", "cpu", "cpu, or cuda: the kernels of a GPU", "Measurement"},
      {"versus-torch", "", "", "measure the plain libtorch formulation beside each method that has one, too",
       "Measurement"}};
  table.insert(table.end(), own.begin(), own.end());
  return table;
}

CompressOptions parse_compress_options(int argc, const char* const* argv, std::string& help) {
  CommandLine line("acp-compress", "Measures compressors alone, on one process: speed, size, error.",
                   compress_option_table());
  line.parse(argc, argv);
  CompressOptions options;
  options.json = line.text("json");
  options.quiet = line.flag("quiet");
  if (line.flag("version")) options.action = CompressOptions::Action::version;
  if (line.flag("help")) {
    options.action = CompressOptions::Action::help;
    help = line.help();
  }
  if (options.action != CompressOptions::Action::measure) return options;

  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  options.seed = static_cast<std::uint64_t>(line.integer("seed", 0, most));
  options.memory = line.text("memory");
  options.iterations = line.integer("iterations", 1, 1'000'000);
  options.warmup = line.integer("warmup", 0, 1'000'000);
  options.threads = static_cast<int>(line.integer("threads", 1, 1024));
  options.versus_torch = line.flag("versus-torch");
  options.levels = parse_levels(line.text("levels"));
  options.device = line.choice("device", {"cpu", "cuda"});
  for (const auto& size : pieces(line.text("sizes"), '/')) options.sizes.push_back(parse_size(size));
  const bool all = !line.given("compressors");
  for (const auto& spec : all ? all_compressors() : pieces(line.text("compressors"), ' ')) {
    // Of all methods, those are measured that have the memory.
    const auto allowed = CompressorFactory(spec, {}).memories();
    const bool has =
        options.memory.empty() || std::find(allowed.begin(), allowed.end(), options.memory) != allowed.end();
    if (all && !has) continue;
    options.compressors.push_back(CompressorFactory(spec, {options.memory, options.seed}).spec());
  }
  if (options.compressors.empty()) throw ConfigError("--compressors: none to measure");
  if (options.sizes.empty()) throw ConfigError("--sizes: none given");
  return options;
}

}  // namespace acp::programs
