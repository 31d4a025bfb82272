// Things by name: what the registries of models and of data sets share.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "comm/error.h"
#include "compressors/spec.h"

namespace acp::models {

// Filled by static initialisers before main(), then only read. `Info` has a member `name`.
template <class Info>
class Registry {
 public:
  explicit Registry(std::string kind) : kind_(std::move(kind)) {}  // for messages: "model"

  // Error if the name is taken.
  void add(Info info) {
    const std::string name = info.name;
    if (!items_.emplace(name, std::move(info)).second) {
      throw Error("two of kind " + kind_ + " are called \"" + name + "\"");
    }
  }

  // In alphabetical order.
  std::vector<const Info*> all() const {
    std::vector<const Info*> result;
    for (const auto& [name, info] : items_) result.push_back(&info);
    return result;
  }

  // Names are compared with '_' read as '-'. ConfigError lists the known ones and the nearest match.
  const Info& find(std::string_view name) const {
    std::string wanted(name);
    std::replace(wanted.begin(), wanted.end(), '_', '-');
    if (const auto found = items_.find(wanted); found != items_.end()) return found->second;
    std::vector<std::string> known;
    std::string list;
    for (const auto& [each, info] : items_) {
      known.push_back(each);
      list += (list.empty() ? "" : ", ") + each;
    }
    const std::string near = nearest(wanted, known);
    throw ConfigError("unknown " + kind_ + " \"" + std::string(name) + "\"" +
                      (near.empty() ? "" : ", did you mean \"" + near + "\"?") + " (known: " + list + ")");
  }

 private:
  std::string kind_;
  std::map<std::string, Info, std::less<>> items_;
};

}  // namespace acp::models
