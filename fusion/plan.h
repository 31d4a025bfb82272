// Decides which gradients travel together: the plan of buckets, made once, before the first exchange.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "compressors/bucket.h"

namespace acp {

// What the planner knows of a parameter, in registration order.
struct ParameterInfo {
  std::string name;
  std::vector<std::int64_t> shape;
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  double wire_bytes = 0;  // mean bytes per step under the compressor

  std::int64_t numel() const;
};

// Parameter indices of each bucket, in the order of their places in it. Buckets are numbered in the order in
// which their last gradient is expected.
using Plan = std::vector<std::vector<int>>;

inline constexpr double whole_model = std::numeric_limits<double>::infinity();

// Greedy fusion in the order `order` (indices of parameters as their gradients become ready): a parameter
// joins the open bucket of its dtype and device while the bucket's wire bytes stay within the threshold, else
// opens a new one (powersgd-acpsgd specification, 2.3). `fusion_mb` is in 2^20 bytes of gradient and is
// scaled by wire / gradient bytes, so that a compressed model has about as many buckets as the plain one. 0 =
// one parameter each. Parameters without elements take no part.
//
// whole_model: one bucket of each dtype and device, for compressors that choose over the whole gradient
// (CompressorFactory::granularity() == "model").
Plan make_plan(std::span<const ParameterInfo> parameters, std::span<const int> order, double fusion_mb);

// The buckets of a plan, their storage allocated and zero.
std::vector<Bucket> allocate(const Plan& plan, std::span<const ParameterInfo> parameters);

}  // namespace acp
