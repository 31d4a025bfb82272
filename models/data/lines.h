// The lines of a text file, plain or gzip, and messages that say which one is wrong.
#pragma once

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace acp::models {

class Lines {
 public:
  // Reads the whole file; DataError as read_file(), and where it is empty or not text (has a zero byte).
  explicit Lines(const std::filesystem::path& path);

  // Goes to the next line; false after the last. LF and CR LF end lines, and so does the end of the file.
  bool next();
  std::string_view line() const { return line_; }  // without its end; valid as long as this object
  std::int64_t number() const { return number_; }  // from 1
  const std::filesystem::path& path() const { return path_; }

  // The line's parts between separators, at least one.
  std::vector<std::string_view> fields(std::string_view separator) const;
  // A whole number in [min, max]; DataError says `what` it should be.
  std::int64_t integer(std::string_view text, const char* what, std::int64_t min, std::int64_t max) const;
  // DataError "FILE:LINE: message".
  [[noreturn]] void fail(const std::string& message) const;

 private:
  std::filesystem::path path_;
  std::vector<std::uint8_t> bytes_;
  std::string_view rest_, line_;
  std::int64_t number_ = 0;
};

// A beginning of a text in quotes, for messages.
std::string excerpt(std::string_view text);

// The next word of `text`, which loses it: words are split by spaces and tabs. Empty after the last.
std::string_view next_word(std::string_view& text);

}  // namespace acp::models
