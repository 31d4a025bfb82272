// The table of methods, filled by static initialisers before main() and only read afterwards.
#include "compressors/registry.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <numeric>

#include "comm/error.h"
#include "compressors/coded_method.h"
#include "compressors/names.h"

namespace acp {
namespace {

// A function's static: the order in which the compressors' files are initialised does not matter.
std::map<std::string, MethodInfo, std::less<>>& table() {
  static std::map<std::string, MethodInfo, std::less<>> methods;
  return methods;
}

// With no parameters: making a compressor for it checks all values of a specification.
Bucket empty_bucket() {
  Bucket bucket;
  bucket.storage = at::zeros({1}, at::kFloat);
  bucket.grads = bucket.storage.narrow(0, 0, 0);
  return bucket;
}

// With names and keys spelt as the registry has them.
MethodSpec canonical(const MethodSpec& spec, const MethodInfo& method) {
  MethodSpec result{.name = method.name, .values = {}};
  for (const auto& [given, value] : spec.values) {
    for (const auto& key : method.keys) {
      if (same_name(key.name, given)) result.values[key.name] = value;
    }
  }
  return result;
}

// Names fold, and numbers have several spellings.
bool is_default(const KeyInfo& key, const std::string& value) {
  const auto number = [](const std::string& text) -> std::optional<double> {
    double parsed = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
    if (error != std::errc() || end != text.data() + text.size()) return {};
    return parsed;
  };
  const auto given = number(value);
  return same_name(value, key.default_value) || (given && given == number(key.default_value));
}

}  // namespace

std::string knob_name(Knob knob) {
  switch (knob) {
    case Knob::rank:
      return "rank";
    case Knob::ratio:
      return "ratio";
    case Knob::bits:
      return "bits";
    case Knob::none:
      break;
  }
  return "none";
}

std::int64_t numel(std::span<const std::int64_t> shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

bool register_method(MethodInfo info) {
  const auto [place, added] = table().insert({fold(info.name), std::move(info)});
  if (!added) throw Error("two compressors are called " + in_quotes(place->first) + ": rename one");
  return true;
}

std::vector<const MethodInfo*> methods() {
  std::vector<const MethodInfo*> result;
  for (const auto& [name, info] : table()) result.push_back(&info);
  return result;
}

const MethodInfo& find_method(std::string_view name) {
  if (const auto found = table().find(fold(name)); found != table().end()) return found->second;
  std::vector<std::string> known;
  for (const auto* method : methods()) known.push_back(method->name);
  throw ConfigError(unknown_name("compressor", name, known));
}

CompressorFactory::CompressorFactory(std::string_view spec, CompressorOptions options)
    : options_(std::move(options)) {
  auto parts = parse_spec(spec);
  for (auto& part : parts) {
    const auto& method = find_method(part.name);
    const Values check_keys(part, method.keys);
    part = canonical(part, method);
    // Of two that are combined, the second makes the values that arrive.
    if (method.recipe.lr) recipe_.lr = method.recipe.lr;
    if (method.recipe.momentum) recipe_.momentum = method.recipe.momentum;
    wants_squares_ = wants_squares_ || method.wants_squares;
    if (!text_.empty()) text_ += '+';
    text_ += part.to_string();
  }
  const auto& method = find_method(parts[0].name);
  std::vector<std::string> granularities;
  if (parts.size() == 1) {
    const Values values(parts[0], method.keys);
    memories_ = method.memories;
    granularities = method.granularities;
    knob_ = method.knob;
    const bool has_choice = std::ranges::find(method.keys, "exchange", &KeyInfo::name) != method.keys.end();
    exchange_ = has_choice ? values.text("exchange") : method.all_reducible ? "reduce" : "gather";
    messages_ = exchange_ == "scatter" ? 2 : method.messages ? method.messages(values) : 1;
    if (method.compresses) {
      compresses_ = [&method, values](std::span<const std::int64_t> shape) {
        return method.compresses(shape, values);
      };
    }
    make_ = [&method, values](const Bucket& bucket, const CompressorOptions& given) {
      return method.make(bucket, values, given);
    };
    wire_bytes_ = [&method, values](std::span<const std::int64_t> shape, std::int64_t element_size) {
      return method.wire_bytes(shape, element_size, values);
    };
  } else {
    auto hybrid = parts.size() == 2 ? find_hybrid(parts[0], parts[1]) : std::nullopt;
    if (!hybrid) {
      throw ConfigError("compressor " + in_quotes(text_) + ": nothing combines " + in_quotes(parts[0].name) +
                        " with " + in_quotes(parts[1].name) +
                        "; a sparsifier and a quantiser can be combined, " +
                        "in this order, and any one method can be taken alone");
    }
    memories_ = std::move(hybrid->memories);
    granularities = std::move(hybrid->granularities);
    knob_ = hybrid->knob;
    make_ = std::move(hybrid->make);
    wire_bytes_ = [bytes = std::move(hybrid->wire_bytes)](std::span<const std::int64_t> shape, std::int64_t) {
      return bytes(shape);
    };
  }
  for (const auto& part : parts) {
    const auto& info = find_method(part.name);
    const auto rival = std::ranges::find(info.keys, info.knob_rival, &KeyInfo::name);
    if (info.knob != knob_ || rival == info.keys.end()) continue;
    if (!is_default(*rival, Values(part, info.keys).text(rival->name))) knob_ = Knob::none;
  }
  options_.memory = options_.memory.empty() ? memories_.front() : fold(options_.memory);
  if (std::ranges::find(memories_, options_.memory) == memories_.end()) {
    throw ConfigError(text_ + ": " + unknown_name("memory", options_.memory, memories_));
  }
  if (options_.memory == "dgc") {
    memory_momentum_ = Values(parts[0], method.keys).number("momentum", 0, 0.999999);
  }
  options_.granularity = options_.granularity.empty() ? granularities.front() : fold(options_.granularity);
  if (std::ranges::find(granularities, options_.granularity) == granularities.end()) {
    throw ConfigError(text_ + ": " + unknown_name("granularity", options_.granularity, granularities));
  }
  make(empty_bucket());
}

std::unique_ptr<Compressor> CompressorFactory::make(const Bucket& bucket) const {
  return make_(bucket, options_);
}

double CompressorFactory::own_level() const {
  for (const auto& part : parse_spec(text_)) {
    const auto& method = find_method(part.name);
    if (knob_ != Knob::none && method.knob == knob_)
      return Values(part, method.keys).number(knob_name(knob_), 0, 1e9);
  }
  throw Error(text_ + " has no level");
}

CompressorFactory CompressorFactory::at_level(double level) const {
  auto parts = parse_spec(text_);
  const auto part = std::ranges::find_if(parts, [&](const MethodSpec& each) {
    return knob_ != Knob::none && find_method(each.name).knob == knob_;
  });
  if (part == parts.end()) throw Error(text_ + " has no level");
  char number[32];
  part->values[knob_name(knob_)] = {number, std::to_chars(number, number + sizeof number, level).ptr};
  // A rule that leaves tensors whole would be the method's own choice, not the level's.
  const bool has_rule = std::ranges::any_of(find_method(part->name).keys,
                                            [](const KeyInfo& key) { return key.name == "min_rate"; });
  if (has_rule) part->values["min_rate"] = std::string(1, '0');
  std::string text;
  for (const auto& each : parts) {
    if (!text.empty()) text += '+';
    text += each.to_string();
  }
  return {text, options_};
}

double CompressorFactory::wire_bytes(std::span<const std::int64_t> shape, std::int64_t element_size) const {
  return wire_bytes_(shape, element_size);
}

}  // namespace acp
