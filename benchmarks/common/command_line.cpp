// See command_line.h. cxxopts parses; what its versions 2.2 to 3.x do differently (exception names, unmatched
// arguments) is checked here before it sees the arguments.
#include "benchmarks/common/command_line.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cxxopts.hpp>
#include <exception>
#include <sstream>

#include "comm/error.h"
#include "compressors/spec.h"
#include "compressors/text.h"

namespace acp::programs {

namespace {

std::string dashes(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string limit(double value) {
  return fmt::format("{:g}", value);
}

// Splits argv into "--name=value" and "--name" alone, with checked names, so that cxxopts only has to store.
std::vector<std::string> checked(const CommandLine& line, const std::vector<std::string>& known, int argc,
                                 const char* const* argv) {
  std::vector<std::string> result;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "-h") {
      result.emplace_back("--help");
      continue;
    }
    if (argument.size() < 3 || argument.compare(0, 2, "--") != 0) {
      throw ConfigError(
          fmt::format("unexpected argument \"{}\": options are --name VALUE; {} --help lists them", argument,
                      line.program()));
    }
    const auto equals = argument.find('=');
    const auto name = dashes(argument.substr(2, equals == std::string::npos ? equals : equals - 2));
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw ConfigError(fmt::format("no such option --{}{}; {} --help lists them", name,
                                    suggestion(name, known, "--"), line.program()));
    }
    const bool flag = line.option(name).value.empty();
    if (flag && equals != std::string::npos) {
      throw ConfigError(fmt::format("--{} takes no value; got \"{}\"", name, argument.substr(equals + 1)));
    }
    if (flag) {
      result.push_back("--" + name);
    } else if (equals != std::string::npos) {
      result.push_back("--" + name + argument.substr(equals));
    } else if (i + 1 < argc) {
      result.push_back("--" + name + "=" + argv[++i]);
    } else {
      throw ConfigError(fmt::format("--{} needs a value: --{} {}", name, name, line.option(name).value));
    }
    if (!flag && result.back().back() == '=' && result.back().size() == name.size() + 3) {
      throw ConfigError(fmt::format("--{} needs a value: --{} {}", name, name, line.option(name).value));
    }
  }
  return result;
}

cxxopts::Options declare(const std::string& program, const std::string& summary,
                         const std::vector<Option>& options) {
  cxxopts::Options declared(program, summary);
  for (const auto& option : options) {
    auto add = declared.add_options(option.group);
    if (option.value.empty()) {
      add(option.name, option.help);
    } else {
      auto value = cxxopts::value<std::string>();
      if (!option.default_value.empty()) value->default_value(option.default_value);
      add(option.name, option.help, value, option.value);
    }
  }
  return declared;
}

}  // namespace

CommandLine::CommandLine(std::string program, std::string summary, std::vector<Option> options)
    : program_(std::move(program)), summary_(std::move(summary)), options_(std::move(options)) {
  for (const auto& option : options_) defaults_[option.name] = option.default_value;
}

void CommandLine::parse(int argc, const char* const* argv) {
  std::vector<std::string> known;
  for (const auto& option : options_) known.push_back(option.name);
  auto arguments = checked(*this, known, argc, argv);
  arguments.insert(arguments.begin(), program_);

  // cxxopts 2.2 takes argc and argv by reference and removes from them; 3.x does not.
  std::vector<char*> pointers;
  for (auto& argument : arguments) pointers.push_back(argument.data());
  int count = static_cast<int>(pointers.size());
  char** data = pointers.data();
  auto declared = declare(program_, summary_, options_);
  try {
    const auto parsed = declared.parse(count, data);
    for (const auto& option : options_) {
      if (parsed.count(option.name) == 0) continue;
      values_[option.name] = option.value.empty() ? "true" : parsed[option.name].as<std::string>();
    }
  } catch (const std::exception& error) {
    throw ConfigError(error.what());
  }
}

const Option& CommandLine::option(const std::string& name) const {
  const auto found = std::find_if(options_.begin(), options_.end(),
                                  [&](const Option& option) { return option.name == name; });
  if (found == options_.end()) throw ConfigError(fmt::format("{} has no option --{}", program_, name));
  return *found;
}

const std::string& CommandLine::text(const std::string& name) const {
  if (const auto value = values_.find(name); value != values_.end()) return value->second;
  if (const auto value = defaults_.find(name); value != defaults_.end()) return value->second;
  throw ConfigError(fmt::format("{} has no option --{}", program_, name));
}

std::int64_t CommandLine::integer(const std::string& name, std::int64_t min, std::int64_t max) const {
  const auto& value = text(name);
  std::int64_t result = 0;
  const auto* end = value.data() + value.size();
  const auto [stop, code] = std::from_chars(value.data(), end, result);
  if (code != std::errc() || stop != end || result < min || result > max) {
    const bool open = max == std::numeric_limits<std::int64_t>::max();
    throw ConfigError(
        fmt::format("--{} {}: must be a whole number {}", name, value,
                    open ? fmt::format("of at least {}", min) : fmt::format("from {} to {}", min, max)));
  }
  return result;
}

double CommandLine::number(const std::string& name, double min, double max) const {
  const auto& value = text(name);
  double result = 0;
  const auto* end = value.data() + value.size();
  const auto [stop, code] = std::from_chars(value.data(), end, result);
  if (code != std::errc() || stop != end || !std::isfinite(result) || result < min || result > max) {
    throw ConfigError(fmt::format("--{} {}: must be a number {}", name, value,
                                  std::isinf(max) ? fmt::format("of at least {}", limit(min))
                                                  : fmt::format("from {} to {}", limit(min), limit(max))));
  }
  return result;
}

std::string CommandLine::choice(const std::string& name, const std::vector<std::string>& allowed) const {
  const auto value = dashes(text(name));
  if (std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
    throw ConfigError(fmt::format("--{} {}: unknown{}; known: {}", name, text(name),
                                  suggestion(value, allowed), join(allowed)));
  }
  return value;
}

void CommandLine::set_default(const std::string& name, const std::string& value) {
  option(name);
  defaults_[name] = value;
}

std::string CommandLine::help() const {
  std::vector<std::string> groups;
  for (const auto& option : options_) {
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) groups.push_back(option.group);
  }
  return declare(program_, summary_, options_).help(groups);
}

std::vector<Option> common_options() {
  return {{"help", "", "", "show this help and exit", "General"},
          {"version", "", "", "show the version and exit", "General"},
          {"json", "FILE", "", "append the results as JSON lines to FILE; - = standard output", "General"},
          {"seed", "N", "42", "of initial weights, data order, compressors and dropout", "General"},
          {"quiet", "", "", "print errors only", "General"}};
}

std::string suggestion(const std::string& name, const std::vector<std::string>& known,
                       const std::string& prefix) {
  const auto near = nearest(name, known);
  return near.empty() ? "" : fmt::format(" (did you mean {}{}?)", prefix, near);
}

std::vector<std::string> pieces(const std::string& text, char separator) {
  std::vector<std::string> result;
  std::istringstream in(text);
  for (std::string piece; std::getline(in, piece, separator);) {
    if (!piece.empty()) result.push_back(piece);
  }
  return result;
}

std::string with_separators(std::uint64_t value) {
  auto digits = std::to_string(value);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

}  // namespace acp::programs
