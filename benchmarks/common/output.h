// What programs print: lines for people, a progress line on a terminal, JSON lines for scripts.
#pragma once

#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace acp::programs {

// Lines for people. Silent on ranks other than 0 and with --quiet.
class Console {
 public:
  // Standard output, or standard error when standard output carries JSON (`--json -`).
  Console(bool silent, bool json_on_stdout);
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  void line(const std::string& text);
  // Rewrites the last line of a terminal, ten times a second at most; nothing elsewhere.
  void progress(const std::string& text);
  bool shows_progress() const { return terminal_; }

 private:
  std::FILE* stream_;
  bool silent_, terminal_, pending_ = false;
  std::chrono::steady_clock::time_point last_{};
};

// Objects appended to a file, one a line; "-" is standard output, an empty path nothing.
class JsonLines {
 public:
  // ConfigError names option and file if it cannot be opened for appending.
  JsonLines(const std::string& option, const std::string& path);

  void write(
      const nlohmann::json& object);  // one write and a flush, so that lines of several runs do not mix
  explicit operator bool() const { return stream_ != nullptr; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::FILE* stream_ = nullptr;
};

// ConfigError names option and file unless it can be opened for appending; creates it. For files that are
// written at the end of a long run.
void check_writable(const std::string& option, const std::string& path);

// The same for a folder in which files will be written; creates it.
void check_writable_folder(const std::string& option, const std::string& path);

}  // namespace acp::programs
