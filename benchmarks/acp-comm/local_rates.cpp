// See local_rates.h.
#include "benchmarks/acp-comm/local_rates.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>

#include "benchmarks/common/measure.h"
#include "comm/algorithms/reduce_kernels.h"

namespace acp::programs {

namespace {

double median_seconds(const Repetitions& repetitions, const std::function<void()>& work) {
  std::vector<double> times;
  for (std::int64_t i = -repetitions.warmup; i < repetitions.iterations; ++i) {
    const auto began = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - began;
    if (i >= 0) times.push_back(time.count());
  }
  std::sort(times.begin(), times.end());
  return percentile(times, 0.5);
}

}  // namespace

std::vector<LoopRate> loop_rates(std::int64_t bytes, const Repetitions& repetitions) {
  std::vector<LoopRate> result;
  const auto add = [&](const std::string& name, double moved, const std::function<void()>& work) {
    result.push_back({name, moved / median_seconds(repetitions, work)});
  };
  const auto raw = [](const at::Tensor& x) { return static_cast<std::byte*>(x.data_ptr()); };
  const auto size = static_cast<double>(bytes);
  {
    const auto from = at::ones({bytes}, at::kByte), to = at::zeros({bytes}, at::kByte);
    add("memcpy", 2 * size,
        [&] { std::memcpy(to.data_ptr(), from.data_ptr(), static_cast<std::size_t>(bytes)); });
  }
  for (const auto& [name, type] : {std::pair{"float32", at::kFloat}, {"float64", at::kDouble}}) {
    const auto n = bytes / static_cast<std::int64_t>(c10::elementSize(type));
    const auto sums = at::zeros({n}, type), x = at::ones({n}, type);
    add(std::string(name) + " += " + name, 3 * size,
        [&, type = type] { reduce_into(raw(sums), raw(x), n, type, ReduceOp::sum); });
  }
  for (const auto& [name, type] : {std::pair{"float16", at::kHalf}, {"bfloat16", at::kBFloat16}}) {
    const auto n = bytes / static_cast<std::int64_t>(c10::elementSize(type));
    const auto sums = at::zeros({n}, at::kFloat), x = at::ones({n}, type);
    auto* const wide = static_cast<float*>(sums.data_ptr());
    add(std::string("float32 = ") + name, 3 * size, [&, type = type] { widen(wide, raw(x), n, type); });
    add(std::string("float32 += ") + name, 5 * size,
        [&, type = type] { reduce_widened(wide, raw(x), n, type, ReduceOp::sum); });
    add(std::string(name) + " = float32", 3 * size, [&, type = type] { narrow(raw(x), wide, n, type); });
  }
  return result;
}

}  // namespace acp::programs
