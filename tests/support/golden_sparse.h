// Golden vectors of sparse compressors: reading the cases.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/golden_lowrank.h"

namespace acp::golden {

using Json = nlohmann::json;

inline Json read_json(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error("no golden case " + path.string());
  return Json::parse(in);
}

inline std::vector<float> read_floats(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("no golden file " + path.string());
  std::vector<float> values(std::filesystem::file_size(path) / 4);
  in.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(4 * values.size()));
  return values;
}

// Numbers of an array, whatever its nesting, or of the file that it names.
inline std::vector<float> floats(const Json& value, const std::filesystem::path& folder = {}) {
  if (value.is_object()) return read_floats(folder / value.at("file").get<std::string>());
  if (!value.is_array()) return {value.get<float>()};
  std::vector<float> result;
  for (const auto& item : value) {
    const auto part = floats(item, folder);
    result.insert(result.end(), part.begin(), part.end());
  }
  return result;
}

inline at::Tensor tensor(const Json& value, const std::filesystem::path& folder = {}) {
  return at::tensor(floats(value, folder));
}

inline std::vector<std::int64_t> integers(const Json& value) {
  return value.get<std::vector<std::int64_t>>();
}

// Places of the elements that are not zero.
inline std::vector<std::int64_t> places(const at::Tensor& x) {
  const auto found = at::nonzero(x.reshape(-1)).reshape(-1).contiguous();
  return {found.data_ptr<std::int64_t>(), found.data_ptr<std::int64_t>() + found.numel()};
}

}  // namespace acp::golden
