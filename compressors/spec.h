// The grammar of compressor and policy specifications: name[:key=value[,key=value...]], composed with `+`.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace acp {

// One method and the keys given for it, e.g. "topk:ratio=0.01". Names are compared with `_` read as `-`.
struct MethodSpec {
  std::string name;
  std::map<std::string, std::string> values;

  // "name:key=value,..." with keys in alphabetical order.
  std::string to_string() const;
};

// "a:x=1+b" as its parts, in order. ConfigError quotes the text and points at what is wrong (empty name,
// missing '=', a key given twice, ...). Does not know any names: the registry checks them.
std::vector<MethodSpec> parse_spec(std::string_view text);

// A key that a method or policy takes.
struct KeyInfo {
  std::string name;
  std::string default_value;
  std::string help;  // one line, with unit and range
};

// The known name nearest to `name` by edit distance, or empty if none is near.
std::string nearest(std::string_view name, std::span<const std::string> known);

// Typed access to the keys of one method; every getter throws ConfigError that names method, key, value and
// rule. Absent keys have the default of `keys`.
class Values {
 public:
  // ConfigError on a key that `keys` lacks: lists the known ones and the nearest match.
  Values(const MethodSpec& spec, std::span<const KeyInfo> keys);

  std::int64_t integer(const std::string& key, std::int64_t min, std::int64_t max) const;
  double number(const std::string& key, double min, double max) const;
  bool boolean(const std::string& key) const;  // true/false, on/off, yes/no, 1/0
  std::string choice(const std::string& key, std::span<const std::string> allowed) const;
  const std::string& text(const std::string& key) const;
  std::vector<double> list(const std::string& key) const;  // "1/2/3"

 private:
  std::string method_;
  std::map<std::string, std::string> values_;
};

}  // namespace acp
