// The registry of data sets, and where a set's files lie.
#include "models/data_set.h"

#include <algorithm>

#include "models/registry.h"

namespace acp::models {
namespace {

namespace fs = std::filesystem;

Registry<DataSetInfo>& registry() {
  static Registry<DataSetInfo> sets("data set");
  return sets;
}

std::string to_string(const TensorSpec& tensor) {
  std::string text;
  for (const std::int64_t size : tensor.shape) text += (text.empty() ? "" : "x") + std::to_string(size);
  if (tensor.classes == 0) return text.empty() ? "a number" : text;
  const std::string classes = "of " + std::to_string(tensor.classes) + " classes";
  return text.empty() ? "one " + classes : text + " " + classes;
}

bool holds(const fs::path& base) {
  std::error_code code;
  if (!base.has_filename()) return fs::is_directory(base, code);  // "train/"
  auto packed = base;
  packed += ".gz";
  return fs::is_regular_file(base, code) || fs::is_regular_file(packed, code);
}

}  // namespace

Batch Batch::to(at::Device device, at::ScalarType floating) const {
  const auto move = [&](const at::Tensor& x) {
    return x.is_floating_point() ? x.to(device, floating) : x.to(device);
  };
  Batch result{{}, move(target), size};
  for (const at::Tensor& input : inputs) result.inputs.push_back(move(input));
  return result;
}

std::string to_string(const SampleSpec& sample) {
  std::string text;
  for (const TensorSpec& input : sample.inputs) text += (text.empty() ? "" : " + ") + to_string(input);
  return text + " -> " + to_string(sample.target);
}

bool register_data_set(DataSetInfo info) {
  return registry().add(std::move(info)), true;
}

std::vector<const DataSetInfo*> data_sets() {
  return registry().all();
}

const DataSetInfo& find_data_set(std::string_view name) {
  return registry().find(name);
}

fs::path locate(const DataSetInfo& set, const fs::path& folder) {
  std::vector<fs::path> candidates{folder};
  for (const std::string& below : set.subfolders) candidates.push_back(folder / below);
  for (const fs::path& candidate : candidates) {
    const bool has_files = std::any_of(set.files.begin(), set.files.end(),
                                       [&](const std::string& file) { return holds(candidate / file); });
    if (has_files && (!set.is_mine || set.is_mine(candidate))) return candidate;
  }
  return {};
}

}  // namespace acp::models
