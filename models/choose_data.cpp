// Which data a program takes: what it is given, else ACP_DATA, else what the system has, else what is built
// in.
#include <algorithm>
#include <cstdlib>

#include "comm/error.h"
#include "compressors/names.h"
#include "compressors/text.h"
#include "models/data_set.h"

namespace acp::models {
namespace {

namespace fs = std::filesystem;

// The set of "synthetic", "digits:train=6000", "cifar100:labels=coarse"; whatever has a slash before a colon
// is a folder, and so is what exists as one, unless it is called as a built-in set.
const DataSetInfo* named(const std::string& given) {
  const std::string name = given.substr(0, given.find(':'));
  if (name.find('/') != std::string::npos) return nullptr;
  std::error_code code;
  const bool folder = fs::is_directory(given, code);
  for (const DataSetInfo* set : data_sets()) {
    if (same_name(set->name, name) && (set->built_in() || !folder)) return set;
  }
  return nullptr;
}

// Where a set that is asked for by name lies.
fs::path find_folder(const DataSetInfo& set, const std::string& asked) {
  const char* variable = std::getenv("ACP_DATA");
  std::vector<fs::path> places;
  if (variable != nullptr && *variable != '\0') places.emplace_back(variable);
  if (!set.system_folder.empty()) places.push_back(set.system_folder);
  std::string looked;
  for (const fs::path& place : places) {
    if (fs::path found = locate(set, place); !found.empty()) return found;
    looked += (looked.empty() ? "" : ", ") + place.string();
  }
  throw DataError(asked + ": " + set.name + " is not in " +
                  (looked.empty() ? "ACP_DATA, which is not set" : looked) +
                  "; set ACP_DATA to its folder or to the one that holds the sets");
}

DataChoice choose_by_name(const DataSetInfo& set, const std::string& given,
                          std::span<const std::string> accepted, const std::string& origin) {
  const std::string asked = origin + " " + given;
  if (std::find(accepted.begin(), accepted.end(), set.name) == accepted.end()) {
    throw ConfigError(asked + ": the model takes " + join(accepted) + ", not " + set.name);
  }
  const auto parts = parse_spec(given);
  if (parts.size() != 1) throw ConfigError(asked + ": data sets are not composed with '+'");
  if (set.built_in()) return {&set, parts[0], {}, parts[0].to_string() + ", built in (" + origin + ")"};
  if (origin == "ACP_DATA") throw DataError(asked + ": no such folder, nor a built-in data set");
  const fs::path folder = find_folder(set, asked);
  return {&set, parts[0], folder, parts[0].to_string() + " from " + folder.string() + " (" + origin + ")"};
}

std::string known_names(bool built_in) {
  std::vector<std::string> names;
  for (const DataSetInfo* set : data_sets()) {
    if (set->built_in() == built_in) names.push_back(set->name);
  }
  return join(names);
}

DataChoice choose_in_folder(const fs::path& folder, std::span<const std::string> accepted,
                            const std::string& origin) {
  std::error_code code;
  if (!fs::is_directory(folder, code)) {
    throw DataError(origin + " " + folder.string() + ": no such folder, nor a data set's name (built in: " +
                    known_names(true) + "; with files in ACP_DATA: " + known_names(false) + ")");
  }
  if (std::ranges::all_of(accepted, [](const auto& name) { return find_data_set(name).built_in(); })) {
    const DataSetInfo& set = find_data_set(accepted.front());
    return {&set, {set.name, {}}, {}, set.name + " (built in)"};
  }
  std::vector<std::string> expected, with_files;
  for (const std::string& name : accepted) {
    const DataSetInfo& set = find_data_set(name);
    if (set.built_in()) continue;
    if (const fs::path found = locate(set, folder); !found.empty()) {
      return {&set, {name, {}}, found, name + " from " + found.string() + " (" + origin + ")"};
    }
    with_files.push_back(name);
    const bool is_folder = set.files.front().back() == '/';
    expected.push_back(set.files.front() + (is_folder ? "" : "[.gz]") + " there or in " +
                       set.subfolders.front() + "/");
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
    if (const DataSetInfo* set = named(value)) return choose_by_name(*set, value, accepted, origin);
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
                  join(accepted));
}

DataSet load_data(const DataChoice& choice, const LoadOptions& options) {
  return choice.set->load(choice.folder, Values(choice.spec, choice.set->keys), options);
}

}  // namespace acp::models
