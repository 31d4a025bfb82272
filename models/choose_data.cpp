// Which data a program takes: what it is given, else ACP_DATA, else what the system has, else what is built
// in.
#include <algorithm>
#include <cstdlib>

#include "comm/error.h"
#include "models/data_set.h"

namespace acp::models {
namespace {

namespace fs = std::filesystem;

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::vector<std::string> built_in_names() {
  std::vector<std::string> names;
  for (const DataSetInfo* set : data_sets()) {
    if (set->built_in()) names.push_back(set->name);
  }
  return names;
}

// "synthetic", "digits:train=6000"; whatever has a slash is a folder.
const DataSetInfo* built_in(const std::string& given) {
  if (given.find('/') != std::string::npos) return nullptr;
  const std::string name = given.substr(0, given.find(':'));
  for (const DataSetInfo* set : data_sets()) {
    if (set->built_in() && set->name == name) return set;
  }
  return nullptr;
}

DataChoice choose_built_in(const DataSetInfo& set, const std::string& given,
                           std::span<const std::string> accepted, const std::string& origin) {
  if (std::find(accepted.begin(), accepted.end(), set.name) == accepted.end()) {
    throw ConfigError(origin + " " + given + ": the model takes " + join({accepted.begin(), accepted.end()}) +
                      ", not " + set.name);
  }
  const auto parts = parse_spec(given);
  if (parts.size() != 1) throw ConfigError(origin + " " + given + ": data sets are not composed with '+'");
  return {&set, parts[0], {}, parts[0].to_string() + ", built in (" + origin + ")"};
}

DataChoice choose_in_folder(const fs::path& folder, std::span<const std::string> accepted,
                            const std::string& origin) {
  std::error_code code;
  if (!fs::is_directory(folder, code)) {
    throw DataError(origin + " " + folder.string() +
                    ": no such folder, nor a built-in data set (built in: " + join(built_in_names()) + ")");
  }
  std::vector<std::string> expected, with_files;
  for (const std::string& name : accepted) {
    const DataSetInfo& set = find_data_set(name);
    if (set.built_in()) continue;
    if (const fs::path found = locate(set, folder); !found.empty()) {
      return {&set, {name, {}}, found, name + " from " + found.string() + " (" + origin + ")"};
    }
    with_files.push_back(name);
    expected.push_back(set.files.front() + "[.gz] there or in " + set.subfolders.front() + "/");
  }
  expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
  throw DataError(origin + " " + folder.string() + ": none of the model's data sets (" + join(with_files) +
                  ") is in it; expected " + join(expected));
}

}  // namespace

DataChoice choose_data(std::span<const std::string> accepted, const std::string& given) {
  const char* variable = std::getenv("ACP_DATA");
  const bool has_variable = variable != nullptr && *variable != '\0';
  if (!given.empty() || has_variable) {
    const std::string origin = given.empty() ? "ACP_DATA" : "--data";
    const std::string value = given.empty() ? variable : given;
    if (const DataSetInfo* set = built_in(value)) return choose_built_in(*set, value, accepted, origin);
    return choose_in_folder(value, accepted, origin);
  }

  std::vector<std::string> absent;
  for (const std::string& name : accepted) {
    const DataSetInfo& set = find_data_set(name);
    if (set.system_folder.empty()) continue;
    if (const fs::path found = locate(set, set.system_folder); !found.empty()) {
      return {&set,
              {name, {}},
              found,
              name + " from " + found.string() + " (neither --data nor ACP_DATA is given)"};
    }
    absent.push_back(name);
  }
  for (const std::string& name : accepted) {
    const DataSetInfo& set = find_data_set(name);
    if (!set.built_in() || name == "synthetic") continue;
    return {&set,
            {name, {}},
            {},
            name + ", built in (neither --data nor ACP_DATA is given" +
                (absent.empty() ? "" : ", and " + join(absent) + " is not installed") + ")"};
  }
  throw DataError("no data: give --data DIR or ACP_DATA, or --data synthetic; the model takes " +
                  join({accepted.begin(), accepted.end()}));
}

DataSet load_data(const DataChoice& choice, const LoadOptions& options) {
  return choice.set->load(choice.folder, Values(choice.spec, choice.set->keys), options);
}

}  // namespace acp::models
