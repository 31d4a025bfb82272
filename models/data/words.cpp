// Words and their numbers in order of first appearance, with counts.
#include "models/data/words.h"

#include <algorithm>
#include <numeric>

namespace acp::models {

std::int32_t Words::add(std::string_view word) {
  auto found = numbers_.find(word);
  if (found == numbers_.end()) {
    found = numbers_.emplace(word, size()).first;
    spellings_.push_back(&found->first);
    counts_.push_back(0);
  }
  ++counts_[static_cast<std::size_t>(found->second)];
  return found->second;
}

std::optional<std::int32_t> Words::find(std::string_view word) const {
  const auto found = numbers_.find(word);
  return found == numbers_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::int32_t> by_frequency(const Words& words) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(words.size()));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return words.count(a) != words.count(b) ? words.count(a) > words.count(b)
                                            : words.spelling(a) < words.spelling(b);
  });
  return order;
}

}  // namespace acp::models
