// What `acp-train --check-data DIR` prints: every known set in a folder, read as training would read it.
#include <ostream>

#include "comm/error.h"
#include "models/data_set.h"

namespace acp::models {
namespace {

void describe(const char* part, const Samples* samples, std::ostream& out) {
  if (samples == nullptr) return;
  out << "  " << part << ": " << samples->size() << " samples";
  const auto counts = samples->class_counts();
  if (!counts.empty()) {
    out << ", " << counts.size() << " classes:";
    for (const std::int64_t count : counts) out << ' ' << count;
  }
  out << std::endl;  // before check(), which may take long
  samples->check();
}

void describe(const DataSet& data, std::ostream& out) {
  if (!data.sample.inputs.empty()) out << "  sample: " << to_string(data.sample) << '\n';
  for (const std::string& fact : data.facts) out << "  " << fact << '\n';
  describe("train", data.train.get(), out);
  describe("eval", data.eval.get(), out);
  describe("test", data.test.get(), out);
}

// The specification of a built-in set, or nothing.
const DataSetInfo* built_in(const std::string& given) {
  for (const DataSetInfo* set : data_sets()) {
    if (set->built_in() && set->name == given.substr(0, given.find(':'))) return set;
  }
  return nullptr;
}

}  // namespace

int check_data(const std::filesystem::path& folder, std::ostream& out) {
  std::error_code code;
  if (!std::filesystem::is_directory(folder, code)) {
    const DataSetInfo* set = built_in(folder.string());
    if (set == nullptr) throw DataError("--check-data " + folder.string() + ": no such folder");
    out << folder.string() << ", built in: " << set->summary << '\n';
    describe(set->load({}, Values(parse_spec(folder.string()).front(), set->keys), {}), out);
    return 0;
  }
  int found = 0, errors = 0;
  std::string absent;
  for (const DataSetInfo* set : data_sets()) {
    if (set->built_in()) continue;
    const auto place = locate(*set, folder);
    if (place.empty()) {
      absent += (absent.empty() ? "" : ", ") + set->name;
      continue;
    }
    ++found;
    out << set->name << " in " << place.string() << '\n';
    try {
      describe(set->load(place, Values({set->name, {}}, set->keys), {}), out);
    } catch (const DataError& error) {
      ++errors;
      out << "  error: " << error.what() << '\n';
    }
  }
  if (!absent.empty()) out << "not in " << folder.string() << ": " << absent << '\n';
  if (found == 0) {
    ++errors;
    out << "error: no known data set in " << folder.string() << '\n';
  }
  return errors;
}

}  // namespace acp::models
