// The options of acp-compress: the table, and the values with everything checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "benchmarks/common/command_line.h"

namespace acp::programs {

struct CompressOptions {
  enum class Action : std::uint8_t { measure, help, version };
  Action action = Action::measure;

  std::vector<std::string> compressors;  // specifications, normalised
  std::string memory;                    // empty = each method's own
  std::vector<std::int64_t> sizes;       // bytes of gradient
  std::vector<double> levels;            // two kept fractions, the larger one first, or empty
  std::int64_t iterations = 7, warmup = 2;
  int threads = 1;
  std::string device = "cpu";
  bool versus_torch = false;
  std::uint64_t seed = 42;
  std::string json;
  bool quiet = false;
};

// The table behind --help and docs/options.md.
std::vector<Option> compress_option_table();

// ConfigError on anything wrong. `help` receives the text of --help.
CompressOptions parse_compress_options(int argc, const char* const* argv, std::string& help);

}  // namespace acp::programs
