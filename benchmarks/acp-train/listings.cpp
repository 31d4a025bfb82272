// See listings.h.
#include "benchmarks/acp-train/listings.h"

#include <spdlog/fmt/fmt.h>

#include <iostream>

#include "benchmarks/acp-train/presets.h"
#include "benchmarks/common/program.h"
#include "comm/error.h"
#include "compressors/text.h"
#include "models/data_set.h"
#include "models/model.h"

namespace acp::programs {

namespace {

void list_models() {
  std::cout << fmt::format("{:<16} {:>14} {:>8}  {}\n", "model", "parameters", "tensors", "about");
  for (const auto* info : models::models()) {
    const auto& size = info->size;
    std::cout << fmt::format("{:<16} {:>14} {:>8}  {} (data: {})\n", info->name,
                             with_separators(static_cast<std::uint64_t>(size.parameters)), size.tensors,
                             info->summary, join(info->data_sets));
    const auto& recipe = info->defaults;
    std::cout << fmt::format(
        "{:<16} trained by: --optimizer {} --lr {} --momentum {} --weight-decay {} --clip {} --lr-schedule "
        "{} --batch-size {} --eval-batch-size {} --epochs {}\n",
        "", recipe.optimizer, recipe.learning_rate, recipe.momentum, recipe.weight_decay, recipe.clip,
        recipe.schedule, recipe.batch_size, recipe.eval_batch_size, recipe.epochs);
    for (const auto& key : info->keys) {
      std::cout << fmt::format("{:<16} {}={}: {}\n", "", key.name, key.default_value, key.help);
    }
  }
}

void list_presets() {
  for (const auto& preset : presets()) {
    std::cout << fmt::format("{}: {}\n   ", preset.name, preset.summary);
    for (const auto& [name, value] : preset.settings) {
      std::cout << (value == "true" ? fmt::format(" --{}", name) : fmt::format(" --{} {}", name, value));
    }
    std::cout << "\n";
  }
}

}  // namespace

int show(const TrainOptions& options, const std::string& help) {
  using Action = TrainOptions::Action;
  switch (options.action) {
    case Action::help:
      std::cout << help << std::flush;
      break;
    case Action::version:
      std::cout << "acp-train " << ACP_VERSION << std::endl;
      break;
    case Action::list_models:
      list_models();
      break;
    case Action::list_presets:
      list_presets();
      break;
    case Action::check_data:
      if (const int errors = models::check_data(options.data, std::cout); errors > 0) {
        throw DataError(fmt::format("--check-data {}: {} of the data sets cannot be used (see above)",
                                    options.data, errors));
      }
      break;
    case Action::train:
      break;
  }
  return 0;
}

}  // namespace acp::programs
