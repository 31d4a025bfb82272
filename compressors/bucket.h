// A fused buffer of gradients, and where each parameter lies in it.
//
// It lives beside the compressors, not in fusion/, because every compressor works on it and includes never point
// upwards; fusion/plan.h decides what goes into which bucket.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace acp {

// One parameter's gradient as a matrix view of the flat buffer: rows = shape[0], cols = numel / rows (row-major).
struct Slice {
  std::int64_t offset = 0;  // first element in Bucket::grads
  std::int64_t rows = 0, cols = 0;
  std::vector<std::int64_t> shape;  // of the parameter
  std::string name;                 // of the parameter; the key of all saved state

  std::int64_t numel() const { return rows * cols; }
  bool is_matrix() const { return shape.size() > 1; }
};

// All gradients of one dtype and device that travel together. Planned once, never moved.
struct Bucket {
  int index = 0;
  at::Tensor storage;  // flat: all gradients, then one element that carries missing() in the first message
  at::Tensor grads;    // storage without that element
  std::vector<Slice> slices;

  // Per slice: 1 if this rank has a gradient in this step, before the exchange; after it, 1 if any rank had one.
  // A slice that no rank used must leave the exchange with its error memory and factors as they were.
  std::vector<std::uint8_t> used;

  std::int64_t missing() const;  // how many slices this rank has no gradient for
  at::Tensor view(const Slice& slice) const { return grads.narrow(0, slice.offset, slice.numel()); }
  at::Tensor matrix(const Slice& slice) const { return view(slice).view({slice.rows, slice.cols}); }
};

inline std::int64_t Bucket::missing() const {
  std::int64_t count = 0;
  for (const auto flag : used) count += flag == 0;
  return count;
}

// The second message of a step in which some rank misses a gradient: `used` as a uint8 tensor, to be all-reduced
// with ReduceOp::max; set_used() takes the result.
at::Tensor used_bitmap(const Bucket& bucket);
void set_used(Bucket& bucket, const at::Tensor& bitmap);

}  // namespace acp
