// See presets.h. A preset more is one entry here.
#include "benchmarks/acp-train/presets.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "benchmarks/common/command_line.h"
#include "comm/error.h"

namespace acp::programs {

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = {
      {"acp-mnist",
       "the MNIST network of the ACP-SGD example, ACP-SGD at rank 4, 3 epochs",
       {{"model", "mnist"},
        {"compressor", "acpsgd:rank=4"},
        {"epochs", "3"},
        {"batch-size", "64"},
        {"optimizer", "sgd"},
        {"lr", "0.05"},
        {"momentum", "0.9"},
        {"lr-schedule", "linear"}}},
      {"acp-mnist-original",
       "the same with the settings that the example was published with: 10 epochs, rate 0.01 per rank, "
       "momentum 0.5",
       {{"model", "mnist"},
        {"compressor", "acpsgd:rank=4"},
        {"epochs", "10"},
        {"batch-size", "64"},
        {"optimizer", "sgd"},
        {"lr", "0.01"},
        {"scale-lr", "true"},
        {"momentum", "0.5"},
        {"lr-schedule", "constant"}}},
      {"powersgd-mnist",
       "the MNIST network with Power-SGD at rank 4, 3 epochs",
       {{"model", "mnist"},
        {"compressor", "powersgd:rank=4"},
        {"epochs", "3"},
        {"batch-size", "64"},
        {"optimizer", "sgd"},
        {"lr", "0.05"},
        {"momentum", "0.9"},
        {"lr-schedule", "linear"}}},
      {"ssgd-mnist",
       "the MNIST network with uncompressed gradients, 3 epochs: what the others are compared with",
       {{"model", "mnist"},
        {"compressor", "none"},
        {"epochs", "3"},
        {"batch-size", "64"},
        {"optimizer", "sgd"},
        {"lr", "0.05"},
        {"momentum", "0.9"},
        {"lr-schedule", "linear"}}}};
  return all;
}

const Preset& find_preset(const std::string& name) {
  std::vector<std::string> names;
  std::string dashed = name;
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  for (const auto& preset : presets()) {
    if (preset.name == dashed) return preset;
    names.push_back(preset.name);
  }
  throw ConfigError(
      fmt::format("--preset {}: unknown{}; known: {}", name, suggestion(dashed, names), joined(names)));
}

}  // namespace acp::programs
