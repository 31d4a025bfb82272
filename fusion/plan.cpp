// Greedy fusion of gradients into buckets, and their allocation.
#include "fusion/plan.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <functional>
#include <numeric>

namespace acp {

std::int64_t ParameterInfo::numel() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

Plan make_plan(std::span<const ParameterInfo> parameters, std::span<const int> order, double fusion_mb) {
  double wire = 0;
  double dense = 0;
  for (const ParameterInfo& p : parameters) {
    wire += p.wire_bytes;
    dense += static_cast<double>(p.numel()) * static_cast<double>(at::elementSize(p.dtype));
  }
  const double scale = dense > 0 ? wire / dense : 1.0;
  const double threshold = fusion_mb == whole_model ? whole_model : fusion_mb * 1024 * 1024 * scale;

  struct Open {
    at::ScalarType dtype;
    at::Device device;
    std::size_t bucket;
    double bytes;
  };
  std::vector<Open> open;  // at most one per dtype and device
  Plan plan;
  std::vector<std::size_t> last;  // position in `order` of each bucket's last parameter
  for (std::size_t at = 0; at < order.size(); ++at) {
    const ParameterInfo& p = parameters[static_cast<std::size_t>(order[at])];
    if (p.numel() == 0) continue;
    auto current =
        std::ranges::find_if(open, [&](const Open& o) { return o.dtype == p.dtype && o.device == p.device; });
    const bool fits = current != open.end() && fusion_mb > 0 && current->bytes + p.wire_bytes <= threshold;
    if (!fits) {
      if (current != open.end()) open.erase(current);
      open.push_back({p.dtype, p.device, plan.size(), 0});
      current = open.end() - 1;
      plan.emplace_back();
      last.push_back(at);
    }
    plan[current->bucket].push_back(order[at]);
    last[current->bucket] = at;
    current->bytes += p.wire_bytes;
  }

  std::vector<std::size_t> by_last(plan.size());
  std::iota(by_last.begin(), by_last.end(), std::size_t{0});
  std::ranges::sort(by_last, {}, [&](std::size_t b) { return last[b]; });
  Plan sorted;
  for (const std::size_t b : by_last) sorted.push_back(std::move(plan[b]));
  return sorted;
}

std::vector<Bucket> allocate(const Plan& plan, std::span<const ParameterInfo> parameters) {
  std::vector<Bucket> buckets;
  for (const auto& members : plan) {
    Bucket bucket;
    bucket.index = static_cast<int>(buckets.size());
    std::int64_t offset = 0;
    for (const int index : members) {
      const ParameterInfo& p = parameters[static_cast<std::size_t>(index)];
      const std::int64_t rows = p.shape.empty() ? 1 : p.shape[0];
      bucket.slices.push_back({offset, rows, p.numel() / rows, p.shape, p.name});
      offset += p.numel();
    }
    const ParameterInfo& first = parameters[static_cast<std::size_t>(members.front())];
    bucket.storage = at::zeros({offset + 1}, at::TensorOptions().dtype(first.dtype).device(first.device));
    bucket.grads = bucket.storage.narrow(0, 0, offset);
    bucket.used.assign(members.size(), 1);
    buckets.push_back(std::move(bucket));
  }
  return buckets;
}

}  // namespace acp
