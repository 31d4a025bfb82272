// The table of methods, filled by static initialisers before main() and only read afterwards.
#include "compressors/registry.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "comm/error.h"
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

}  // namespace

std::int64_t numel(std::span<const std::int64_t> shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

bool register_method(MethodInfo info) {
  auto name = fold(info.name);
  if (!table().try_emplace(name, std::move(info)).second) {
    throw Error("two compressors are called " + in_quotes(name) + ": rename one");
  }
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
    : parts_(parse_spec(spec)), options_(std::move(options)) {
  for (auto& part : parts_) {
    const auto& method = find_method(part.name);
    const Values check_keys(part, method.keys);
    part = canonical(part, method);
    text_ += (text_.empty() ? "" : "+") + part.to_string();
  }
  if (parts_.size() > 1) {
    throw ConfigError("compressor " + in_quotes(text_) + ": nothing combines " + in_quotes(parts_[0].name) +
                      " with " + in_quotes(parts_[1].name) + "; take one of them alone");
  }
  const auto& method = find_method(parts_[0].name);
  memory_ = options_.memory.empty() ? method.memories.front() : fold(options_.memory);
  if (std::ranges::find(method.memories, memory_) == method.memories.end()) {
    throw ConfigError(method.name + ": " + unknown_name("memory", memory_, method.memories));
  }
  options_.memory = memory_;
  make(empty_bucket());
}

std::unique_ptr<Compressor> CompressorFactory::make(const Bucket& bucket) const {
  const auto& method = find_method(parts_[0].name);
  return method.make(bucket, Values(parts_[0], method.keys), options_);
}

double CompressorFactory::wire_bytes(std::span<const std::int64_t> shape, std::int64_t element_size) const {
  const auto& method = find_method(parts_[0].name);
  return method.wire_bytes(shape, element_size, Values(parts_[0], method.keys));
}

}  // namespace acp
