// A fused buffer of gradients, and where each parameter lies in it.
//
// It lives beside the compressors, not in fusion/, because every compressor works on it and includes never
// point upwards; fusion/plan.h decides what goes into which bucket.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace acp {

// One parameter's gradient as a matrix view of the flat buffer: rows = shape[0], cols = numel / rows
// (row-major).
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

  // Per slice: 1 if this rank has a gradient in this step, before the exchange (the slot of a 0 holds zeros,
  // and the owner of the bucket keeps what was there); after it, 1 if any rank had one. After the exchange 0
  // means: the slot's content has no meaning, and error memory and factors are as they were before the step.
  std::vector<std::uint8_t> used;

  // Of methods that ask for it (MethodInfo::wants_squares), float32, laid out like `grads`: the sum over this
  // rank's samples of (gradient of the sample / number of samples)^2, and per slice whether it is known in
  // this step. Undefined and empty otherwise.
  at::Tensor squares;
  std::vector<std::uint8_t> has_squares;

  std::int64_t missing() const;  // how many slices this rank has no gradient for
  at::Tensor missing_count() const { return storage.narrow(0, grads.numel(), 1); }
  at::Tensor view(const Slice& slice) const { return grads.narrow(0, slice.offset, slice.numel()); }
  at::Tensor matrix(const Slice& slice) const { return view(slice).view({slice.rows, slice.cols}); }
};

inline std::int64_t Bucket::missing() const {
  std::int64_t count = 0;
  for (const auto flag : used) count += flag == 0;
  return count;
}

// The extra element of a step's first message: put_missing() writes bucket.missing() into `count` (one
// element of any floating dtype); after a sum or an average over the ranks some_missing() says whether a
// bitmap has to follow.
void put_missing(const Bucket& bucket, const at::Tensor& count);
bool some_missing(const at::Tensor& count);

// The second message of a step in which some rank misses a gradient: `used` as a uint8 tensor, to be
// all-reduced with ReduceOp::max; set_used() takes the result.
at::Tensor used_bitmap(const Bucket& bucket);
void set_used(Bucket& bucket, const at::Tensor& bitmap);

}  // namespace acp
