// The command line of a program: one table of options, from which parsing, checks and --help come.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace acp::programs {

// One `--name VALUE`, or a flag.
struct Option {
  std::string name;           // without dashes
  std::string value;          // placeholder in --help; empty = a flag
  std::string default_value;  // shown in --help; empty = none
  std::string help;           // one sentence
  std::string group;          // heading in --help
};

// Reads argv against the table. All errors are ConfigError: an unknown option names the nearest known one, a
// value of the wrong form names option, value and rule. `_` in option names is read as `-`; of a repeated
// option the last counts. Values are kept as text, since an option that is absent may have a default of its
// own per model.
class CommandLine {
 public:
  CommandLine(std::string program, std::string summary, std::vector<Option> options);

  void parse(int argc, const char* const* argv);

  bool given(const std::string& name) const { return values_.count(name) != 0; }
  bool flag(const std::string& name) const { return text(name) == "true"; }
  // The value given, else the table's default.
  const std::string& text(const std::string& name) const;
  std::int64_t integer(const std::string& name, std::int64_t min, std::int64_t max) const;
  double number(const std::string& name, double min, double max) const;
  // One of `allowed`; the error offers the nearest.
  std::string choice(const std::string& name, const std::vector<std::string>& allowed) const;

  // Takes `value` for an option that the user has not given (presets and recipes).
  void set_default(const std::string& name, const std::string& value);
  const std::string& option_default(const std::string& name) const { return defaults_.at(name); }
  // Checks names against the table: ConfigError if there is no such option.
  const Option& option(const std::string& name) const;

  const std::string& program() const { return program_; }
  std::string help() const;  // for a terminal

 private:
  std::string program_, summary_;
  std::vector<Option> options_;
  std::map<std::string, std::string> defaults_, values_;
};

// What every program takes: --help --version --json --seed --quiet.
std::vector<Option> common_options();

// " (did you mean --compressor?)", or nothing when none of `known` is near.
std::string suggestion(const std::string& name, const std::vector<std::string>& known,
                       const std::string& prefix = "");

// A list in one value: what stands between separators, without empty pieces.
std::vector<std::string> pieces(const std::string& text, char separator);

// "1,048,576"
std::string with_separators(std::uint64_t value);

}  // namespace acp::programs
