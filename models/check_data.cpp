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
  out << '\n';
}

}  // namespace

int check_data(const std::filesystem::path& folder, std::ostream& out) {
  std::error_code code;
  if (!std::filesystem::is_directory(folder, code)) {
    throw DataError("--check-data " + folder.string() + ": no such folder");
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
      const DataSet data = set->load(place, Values({set->name, {}}, set->keys), {});
      out << "  sample: " << to_string(data.sample) << '\n';
      describe("train", data.train.get(), out);
      describe("eval", data.eval.get(), out);
      describe("test", data.test.get(), out);
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
