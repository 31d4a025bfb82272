// Things by name: what the registries of models and of data sets share.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "comm/error.h"
#include "compressors/names.h"

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

  // ConfigError lists the known ones and the nearest match.
  const Info& find(std::string_view name) const {
    if (const auto found = items_.find(fold(name)); found != items_.end()) return found->second;
    std::vector<std::string> known;
    for (const auto& [each, info] : items_) known.push_back(each);
    throw ConfigError(unknown_name(kind_, name, known));
  }

 private:
  std::string kind_;
  std::map<std::string, Info, std::less<>> items_;
};

}  // namespace acp::models
