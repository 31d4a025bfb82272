// Words and their numbers in order of first appearance, with counts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace acp::models {

class Words {
 public:
  // The word's number; a new word gets the next.
  std::int32_t add(std::string_view word);
  std::optional<std::int32_t> find(std::string_view word) const;

  std::int32_t size() const { return static_cast<std::int32_t>(spellings_.size()); }
  const std::string& spelling(std::int32_t word) const { return *spellings_[static_cast<std::size_t>(word)]; }
  // How often add() got it.
  std::int64_t count(std::int32_t word) const { return counts_[static_cast<std::size_t>(word)]; }

 private:
  // So that looking up makes no std::string.
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> numbers_;
  std::vector<const std::string*> spellings_;  // the keys of numbers_, which stay where they are
  std::vector<std::int64_t> counts_;
};

// All words, the most frequent first, equals in alphabetical (byte) order.
std::vector<std::int32_t> by_frequency(const Words& words);

}  // namespace acp::models
