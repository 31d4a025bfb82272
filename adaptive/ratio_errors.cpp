// See ratio_errors.h.
#include "adaptive/ratio_errors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "adaptive/error_table.h"
#include "comm/error.h"
#include "compressors/names.h"
#include "compressors/registry.h"

namespace acp {
namespace {

constexpr std::array largest{"topk", "globaltopk", "dgc", "redsync", "sidco"};
constexpr std::array drawn{"randomk", "randomblock"};

MethodSpec part_with_ratio(const std::string& compressor) {
  const auto parts = parse_spec(compressor);
  const auto part = std::ranges::find(parts, Knob::ratio,
                                      [](const MethodSpec& each) { return find_method(each.name).knob; });
  if (part == parts.end()) throw ConfigError("compressor " + in_quotes(compressor) + " has no ratio");
  const auto is = [&](const char* name) { return part->name == name; };
  if (!std::ranges::any_of(largest, is) && !std::ranges::any_of(drawn, is)) {
    throw ConfigError(
        "policy lgreco: what " + in_quotes(part->name) +
        " leaves out at another ratio is not known; take topk, globaltopk, dgc, redsync, sidco, "
        "randomk or randomblock, or another policy");
  }
  return *part;
}

Values values_of(const MethodSpec& part) {
  return {part, find_method(part.name).keys};
}

}  // namespace

RatioErrors::RatioErrors(const std::string& compressor) : ratio_(values_of(part_with_ratio(compressor))) {
  const auto part = part_with_ratio(compressor);
  const auto values = values_of(part);
  random_ = std::ranges::any_of(drawn, [&](const char* name) { return part.name == name; });
  if (part.name == "randomk") {
    replace_ = values.text("draw") == "replace";
    unbiased_ = values.boolean("unbiased");
  }
  if (part.name.ends_with("topk") && values.text("count") == "cat") {
    throw ConfigError("policy lgreco: " + part.name +
                      " with count=cat chooses the number of elements itself; take count=ratio");
  }
}

std::vector<double> RatioErrors::operator()(const at::Tensor& tensor, std::span<const double> ratios) const {
  const auto values = tensor.to(at::kFloat).contiguous().view(-1);
  const auto n = values.numel();
  std::vector<std::int64_t> counts;
  for (const double level : ratios) {
    auto ratio = ratio_;
    ratio.set(level);
    counts.push_back(ratio.count(n));
  }
  if (!random_) return top_k_errors({values.const_data_ptr<float>(), static_cast<std::size_t>(n)}, counts);
  const double norm = frobenius_norm(values);
  std::vector<double> errors;
  for (const auto count : counts) {
    const auto k = static_cast<double>(count), all = static_cast<double>(std::max<std::int64_t>(n, 1));
    const double p = replace_ ? 1 - std::pow(1 - 1 / all, k) : std::min(k / all, 1.0);
    errors.push_back(n == 0 ? 0 : norm * std::sqrt(unbiased_ ? 1 / p - 1 : 1 - p));
  }
  return errors;
}

}  // namespace acp
