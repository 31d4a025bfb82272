// See levels.h.
#include "benchmarks/acp-compress/levels.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <vector>

#include "benchmarks/common/measure.h"
#include "compressors/registry.h"

namespace acp::programs {

bool has_levels(const std::string& spec) {
  return CompressorFactory(spec, {}).knob() == Knob::ratio;
}

Levels measure_levels(const std::string& spec, double first, double second, const std::string& memory,
                      std::uint64_t seed, const at::Tensor& gradient, const Repeat& repeat) {
  const auto with_ratio = [&](double ratio) {
    std::string text;
    for (auto& part : parse_spec(spec)) {
      const auto& keys = find_method(part.name).keys;
      if (std::ranges::find(keys, "ratio", &KeyInfo::name) != keys.end())
        part.values["ratio"] = fmt::format("{}", ratio);
      text += (text.empty() ? "" : "+") + part.to_string();
    }
    return text;
  };
  // They take turns, each with a compressor of its own, so that nothing but the work differs.
  std::vector<double> first_times, second_times, both_times;
  const Repeat once{1, repeat.warmup, repeat.device};
  for (std::int64_t i = 0; i < repeat.iterations; ++i) {
    const auto time = [&](double ratio, const std::vector<double>& probes) {
      return measure_exchange(with_ratio(ratio), memory, seed, {gradient}, once, probes).times.encode;
    };
    first_times.push_back(time(first, {}));
    second_times.push_back(time(second, {}));
    both_times.push_back(time(first, {first, second}));
  }
  const auto median = [](std::vector<double>& times) {
    std::ranges::sort(times);
    return percentile(times, 0.5);
  };
  return {median(first_times), median(second_times), median(both_times)};
}

}  // namespace acp::programs
