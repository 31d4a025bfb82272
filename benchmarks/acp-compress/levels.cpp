// See levels.h.
#include "benchmarks/acp-compress/levels.h"

#include <vector>

#include "compressors/registry.h"

namespace acp::programs {

bool has_levels(const std::string& spec) {
  return CompressorFactory(spec, {}).knob() == Knob::ratio;
}

Levels measure_levels(const std::string& spec, double first, double second, const std::string& memory,
                      std::uint64_t seed, const at::Tensor& gradient, const Repeat& repeat) {
  const CompressorFactory own(spec, {});
  // They take turns, each with a compressor of its own, so that nothing but the work differs.
  std::vector<double> first_times, second_times, both_times;
  const Repeat once{1, repeat.warmup, repeat.device};
  for (std::int64_t i = 0; i < repeat.iterations; ++i) {
    const auto time = [&](double ratio, const std::vector<double>& probes) {
      return measure_exchange(own.at_level(ratio).spec(), memory, seed, {gradient}, once, probes)
          .times.encode;
    };
    first_times.push_back(time(first, {}));
    second_times.push_back(time(second, {}));
    both_times.push_back(time(first, {first, second}));
  }
  return {median(first_times), median(second_times), median(both_times)};
}

}  // namespace acp::programs
