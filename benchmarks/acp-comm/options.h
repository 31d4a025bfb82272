// The options of acp-comm: the table, and the values with everything checked.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <vector>

#include "benchmarks/common/command_line.h"
#include "comm/collective.h"

namespace acp::programs {

struct CommOptions {
  enum class Action : std::uint8_t { collectives, tensors, local, help, version };
  Action action = Action::collectives;

  std::vector<Collective::Kind> ops;
  std::vector<std::int64_t> sizes;  // bytes, ascending
  std::int64_t iterations = 20, warmup = 5;
  Algorithm algorithm = Algorithm::automatic;
  std::string backend = "auto", device = "auto";
  at::ScalarType type = at::kFloat;
  ReduceOp reduce = ReduceOp::sum;
  int root = 0;
  bool in_place = true, out_of_place = true;

  std::string model;                     // of --tensors
  std::vector<std::string> compressors;  // specifications, normalised
  double fusion_mb = 25;

  std::uint64_t seed = 42;
  std::string json;
  bool quiet = false;
};

// The table behind --help and docs/options.md.
std::vector<Option> comm_option_table();

// As --dtype and --reduce spell them.
const std::string& name_of(at::ScalarType type);
const std::string& name_of(ReduceOp op);

// "1K" = 1024, as nccl-tests has it. ConfigError names option and value.
std::int64_t parse_bytes(const std::string& option, const std::string& text);

// ConfigError on anything wrong. `help` receives the text of --help.
CommOptions parse_comm_options(int argc, const char* const* argv, std::string& help);

}  // namespace acp::programs
