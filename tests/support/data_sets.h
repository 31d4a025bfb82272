// Data sets in tests: small files, loading by name, and where the real ones are.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "models/data_set.h"
#include "tests/support/temp_folder.h"

namespace acp {

inline std::vector<std::uint8_t> text_bytes(std::string_view text) {
  return {text.begin(), text.end()};
}

inline models::DataSet load_set(const std::string& name, const std::filesystem::path& folder,
                                const models::LoadOptions& options = {},
                                const std::map<std::string, std::string>& values = {}) {
  const models::DataSetInfo& info = models::find_data_set(name);
  return info.load(folder, Values({name, values}, info.keys), options);
}

// Where the real files of a set are; says that they are not, and is empty.
inline std::filesystem::path real_folder(const std::string& name) {
  const char* given = std::getenv("ACP_DATA");
  const std::filesystem::path sets = given != nullptr ? given : "../shared/data";
  const auto folder = locate(models::find_data_set(name), sets);
  if (folder.empty()) std::cout << "skipped: no data for " << name << " in " << sets.string() << std::endl;
  return folder;
}

// The samples first, first + 1, ...
inline models::Batch get(const models::Samples& samples, std::int64_t first, std::int64_t count,
                         std::int64_t epoch = 0) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(count));
  std::iota(indices.begin(), indices.end(), first);
  return samples.get(indices, epoch);
}

inline models::Batch get_all(const models::Samples& samples) {
  return get(samples, 0, samples.size());
}

}  // namespace acp
