// The options of acp-train: the table, the values after presets and recipes, and their checks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "acp/options.h"
#include "benchmarks/common/command_line.h"

namespace acp::programs {

// What to do and how, complete: every default filled in, everything checked that one process can check alone.
struct TrainOptions {
  enum class Action : std::uint8_t { train, help, version, list_models, list_presets, check_data };
  Action action = Action::train;

  std::string preset;            // its name, or empty
  std::string model;             // specification, normalised
  std::string data;              // folder, "synthetic", or empty = ACP_DATA, else built-in data
  std::string data_set;          // which of a folder's sets; empty = the model's preferred one
  bool augment = true;           // training samples
  std::int64_t epochs = 0;       // 0 when iterations count
  std::int64_t iterations = 0;   // measured steps; 0 when epochs count
  std::int64_t warmup = 0;       // steps that are not measured
  std::int64_t batch_size = 64;  // per rank and backward pass
  std::int64_t eval_batch_size = 1000, test_batch_size = 1000;
  std::int64_t eval_every = 0;  // steps; 0 = at the end of every epoch
  bool evaluate = true;

  std::string optimizer = "sgd", lr_schedule = "constant";
  double lr = 0.1;
  bool scale_lr = false;  // lr times the number of ranks
  std::optional<double> momentum, weight_decay;
  std::vector<std::string> no_decay;  // of "bias", "norm"
  double label_smoothing = 0;
  std::string lr_warmup = "0";  // steps, or epochs as in "5e"
  double clip = 0;              // global norm of the reduced gradient; 0 = off

  Options reduction;  // compressor, memory, policy, fusion, overlap, ..., as the library takes them
  std::string algorithm = "auto", backend = "auto", device;  // device empty: not asked for
  std::uint64_t seed = 42;

  std::string checkpoint;             // folder; empty = none
  std::int64_t checkpoint_every = 0;  // steps; 0 = at the end of every epoch
  bool resume = false;

  std::vector<std::string> notes;  // what the user should know about the settings, a line each

  std::string json, metrics, trace, name, project;
  std::int64_t log_every = 0;  // steps between two lines; 0 = none
  bool quiet = false;
};

// The table behind --help and docs/options.md.
std::vector<Option> train_option_table();

// "100" -> 100 steps, "5e" -> 5 epochs; ConfigError names --lr-warmup.
std::uint64_t lr_warmup_steps(const std::string& text, std::uint64_t steps_per_epoch);

// ConfigError on anything wrong; Action::help and its like end the checks early. `help` receives the text of
// --help.
TrainOptions parse_train_options(int argc, const char* const* argv, std::string& help);

}  // namespace acp::programs
