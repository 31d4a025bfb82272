// The lines of a text file, plain or gzip, and messages that say which one is wrong.
#include "models/data/lines.h"

#include <algorithm>

#include "comm/error.h"
#include "compressors/names.h"
#include "models/file.h"

namespace acp::models {

Lines::Lines(const std::filesystem::path& path) : path_(path), bytes_(read_file(path)) {
  if (bytes_.empty()) throw DataError(path.string() + ": empty, expected lines of text");
  if (const auto zero = std::find(bytes_.begin(), bytes_.end(), 0); zero != bytes_.end()) {
    throw DataError(path.string() + ": byte " + std::to_string(zero - bytes_.begin()) +
                    " is zero, expected text");
  }
  rest_ = {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
}

bool Lines::next() {
  if (rest_.empty()) return false;
  const auto end = rest_.find('\n');
  line_ = rest_.substr(0, end);
  rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
  if (!line_.empty() && line_.back() == '\r') line_.remove_suffix(1);
  ++number_;
  return true;
}

std::vector<std::string_view> Lines::fields(std::string_view separator) const {
  std::vector<std::string_view> result;
  for (std::string_view text = line_;;) {
    const auto at = text.find(separator);
    result.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return result;
    text.remove_prefix(at + separator.size());
  }
}

std::int64_t Lines::integer(std::string_view text, const char* what, std::int64_t min,
                            std::int64_t max) const {
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || value < min || value > max) {
    fail(excerpt(text) + ", expected " + what + ", a whole number of " + std::to_string(min) + " to " +
         std::to_string(max));
  }
  return value;
}

void Lines::fail(const std::string& message) const {
  throw DataError(path_.string() + ":" + std::to_string(number_) + ": " + message);
}

std::string excerpt(std::string_view text) {
  constexpr std::size_t most = 40;
  return in_quotes(text.substr(0, most)) + (text.size() > most ? "..." : "");
}

std::string_view next_word(std::string_view& text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return text = {};
  const auto end = std::min(text.find_first_of(" \t", begin), text.size());
  const auto word = text.substr(begin, end - begin);
  text.remove_prefix(end);
  return word;
}

}  // namespace acp::models
