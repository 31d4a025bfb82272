// Parser of compressor and policy specifications, and typed access to their values.
#include "compressors/spec.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "comm/error.h"
#include "compressors/names.h"
#include "compressors/text.h"

namespace acp {
namespace {

MethodSpec parse_method(std::string_view part, std::string_view whole) {
  const auto fail = [&](const std::string& what) {
    throw ConfigError("specification " + in_quotes(whole) + ": " + what);
  };
  const auto colon = part.find(':');
  MethodSpec spec{.name = fold(trim(part.substr(0, colon))), .values = {}};
  if (spec.name.empty()) fail("a name is missing; the form is name:key=value,... joined with '+'");
  if (spec.name.find('=') != std::string::npos) {
    fail("keys come after a colon: name:key=value, not " + in_quotes(part));
  }
  if (colon == std::string_view::npos) return spec;
  for (const auto item : split(part.substr(colon + 1), ",")) {
    const auto equals = item.find('=');
    if (item.empty()) fail("key=value is missing after " + in_quotes(spec.name));
    if (equals == std::string_view::npos) fail("'=' is missing in " + in_quotes(item) + " (key=value)");
    const auto key = trim(item.substr(0, equals)), value = trim(item.substr(equals + 1));
    if (key.empty()) fail("the key is missing in " + in_quotes(item) + " (key=value)");
    if (value.empty()) fail("the value of " + in_quotes(key) + " is missing");
    for (const auto& [given, unused] : spec.values) {
      if (same_name(given, key)) fail("key " + in_quotes(key) + " is given twice");
    }
    spec.values.emplace(key, value);
  }
  return spec;
}

// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours cost 1.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before, last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = std::exchange(last, row);
  }
  return last[b.size()];
}

// All of `text` as a number; from_chars knows neither locale nor a leading '+'.
template <class Number>
bool read_number(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

std::string shortest(double number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

// "from 1 to 8", "at least 1", ...; an infinite bound (or the type's limit) is no bound.
std::string range(double min, double max, bool open_below, bool open_above) {
  if (open_below && open_above) return "";
  if (open_above) return " of at least " + shortest(min);
  if (open_below) return " of at most " + shortest(max);
  return " from " + shortest(min) + " to " + shortest(max);
}

}  // namespace

std::string fold(std::string_view name) {
  std::string result(name);
  std::ranges::replace(result, '_', '-');
  return result;
}

bool same_name(std::string_view a, std::string_view b) {
  return fold(a) == fold(b);
}

std::string in_quotes(std::string_view text) {
  return '"' + std::string(text) + '"';
}

std::string unknown_name(std::string_view kind, std::string_view name, std::span<const std::string> known) {
  auto message = "unknown " + std::string(kind) + " " + in_quotes(name) + ";";
  if (const auto near = nearest(name, known); !near.empty())
    message += " did you mean " + in_quotes(near) + "?";
  message += " known:";
  if (known.empty()) return message + " none";
  for (const auto& item : known) message += (&item == known.data() ? " " : ", ") + item;
  return message;
}

std::string MethodSpec::to_string() const {
  auto text = name;
  for (const auto& [key, value] : values)
    text += (text.size() == name.size() ? ":" : ",") + key + "=" + value;
  return text;
}

std::vector<MethodSpec> parse_spec(std::string_view text) {
  std::vector<MethodSpec> specs;
  for (const auto part : split(text, "+")) specs.push_back(parse_method(part, text));
  return specs;
}

std::string nearest(std::string_view name, std::span<const std::string> known) {
  const auto folded = fold(name);
  std::string best;
  auto least = std::max<std::size_t>(1, folded.size() / 3) + 1;
  for (const auto& candidate : known) {
    if (const auto distance = edit_distance(folded, fold(candidate)); distance < least) {
      least = distance;
      best = candidate;
    }
  }
  if (!best.empty() || folded.size() < 2) return best;
  // Nothing is near, but the beginning of a name is as good a hint: "acp" -> "acpsgd".
  const auto begins = [&](const std::string& candidate) { return fold(candidate).starts_with(folded); };
  const auto found = std::ranges::find_if(known, begins);
  return found == known.end() ? "" : *found;
}

Values::Values(const MethodSpec& spec, std::span<const KeyInfo> keys) : method_(spec.name) {
  for (const auto& key : keys) values_[key.name] = key.default_value;
  for (const auto& [given, value] : spec.values) {
    const auto matches = [&name = given](const KeyInfo& key) { return same_name(key.name, name); };
    const auto found = std::ranges::find_if(keys, matches);
    if (found == keys.end()) {
      std::vector<std::string> known;
      for (const auto& key : keys) known.push_back(key.name);
      throw ConfigError(method_ + ": " + unknown_name("key", given, known));
    }
    values_[found->name] = value;
  }
}

const std::string& Values::text(const std::string& key) const {
  const auto found = values_.find(key);
  if (found == values_.end())
    throw Error(method_ + ": asks for " + in_quotes(key) + ", a key that it does not have");
  return found->second;
}

std::int64_t Values::integer(const std::string& key, std::int64_t min, std::int64_t max) const {
  std::int64_t number = 0;
  if (read_number(text(key), number) && number >= min && number <= max) return number;
  using Limits = std::numeric_limits<std::int64_t>;
  throw ConfigError(
      method_ + ": " + key + "=" + text(key) + " is not a whole number" +
      range(static_cast<double>(min), static_cast<double>(max), min == Limits::min(), max == Limits::max()));
}

double Values::number(const std::string& key, double min, double max) const {
  double number = 0;
  if (read_number(text(key), number) && number >= min && number <= max) return number;
  throw ConfigError(method_ + ": " + key + "=" + text(key) + " is not a number" +
                    range(min, max, std::isinf(min), std::isinf(max)));
}

bool Values::boolean(const std::string& key) const {
  const auto& value = text(key);
  for (const auto* yes : {"true", "on", "yes", "1"}) {
    if (value == yes) return true;
  }
  for (const auto* no : {"false", "off", "no", "0"}) {
    if (value == no) return false;
  }
  throw ConfigError(method_ + ": " + key + "=" + value + " is neither on nor off (true/false, yes/no, 1/0)");
}

std::string Values::choice(const std::string& key, std::span<const std::string> allowed) const {
  const auto& value = text(key);
  const auto matches = [&](const std::string& item) { return same_name(item, value); };
  const auto found = std::ranges::find_if(allowed, matches);
  if (found == allowed.end()) throw ConfigError(method_ + ": " + unknown_name(key, value, allowed));
  return *found;
}

std::vector<double> Values::list(const std::string& key) const {
  std::vector<double> numbers;
  for (const auto item : split(text(key), "/")) {
    if (!read_number(item, numbers.emplace_back()) || !std::isfinite(numbers.back())) {
      throw ConfigError(method_ + ": " + key + "=" + text(key) + ": " + in_quotes(item) +
                        " is not a number (a list is written 1/2/3)");
    }
  }
  return numbers;
}

}  // namespace acp
