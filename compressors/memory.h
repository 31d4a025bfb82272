// Error memories of coded compressors: none, residual, and the momentum correction of DGC.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compressors/bucket.h"
#include "compressors/coded_method.h"
#include "compressors/compressor.h"
#include "compressors/cuda/kernels.h"

namespace acp {

enum class MemoryKind : std::uint8_t { none, residual, dgc };

// The memory of one bucket in float32, laid out like its gradients. A step is: take(), what was sent is taken
// out by sent(), done(). Between take() and done() it holds the values to be compressed:
//   none      y = scale * g
//   residual  y = e + scale * g;               e = y - sent
//   dgc       v = momentum * v + g, u = u + v; y = u; where something is sent: v = 0, u = y - sent
// (dgc with momentum: Lin et al., "Deep gradient compression", ICLR 2018, section 3.2.)
// Parameters without a gradient in this step show y = 0, and keep what they have.
class ErrorMemory {
 public:
  // `measure`: norms() of every step, for a pass or two over memory more.
  ErrorMemory(const Bucket& bucket, MemoryKind kind, Feedback feedback, double momentum,
              bool measure = false);

  // DataError that names rank and parameter if some gradient of this rank is NaN or infinite, or y would be.
  void check(const Bucket& bucket, int rank) const;

  void take(const Bucket& bucket);
  // take() by the kernels of a GPU, without a word to the host: y of the whole bucket. For none and residual,
  // at scale
  // 1. `largest`, of each slice, as device::Sum has it: what check() looks for.
  at::Tensor take(const Bucket& bucket, const device::Kernels& kernels, std::uint32_t* largest);
  std::span<float> values() { return y_; }                 // of the whole bucket
  std::span<const float> gradients() const { return g_; }  // of this step, float32

  // What this rank's message stands for: of a block that begins at `offset`.
  void sent(std::int64_t offset, std::span<const std::uint32_t> indices, std::span<const float> values);
  void sent(std::int64_t offset, std::span<const float> values);
  void kept(std::int64_t offset, std::uint32_t index, float value);  // adds to what is kept
  void done();

  bool keeps() const { return kind_ != MemoryKind::none; }
  // What the coming gradient is added to, of the whole bucket: e, or u + momentum v; nothing without a
  // memory.
  at::Tensor before_gradient() const;
  bool wants_sent() const { return keeps() || measure_; }  // else sent() does nothing
  const ErrorNorms& norms() const { return norms_; }       // of the last step; zeros unless measured
  void save(State& state) const;
  void load(const State& state);

 private:
  struct Hidden {
    std::size_t slice;
    at::Tensor main, velocity;
  };
  std::span<float> part(const at::Tensor& flat, const Slice& slice) const;
  // What is wrong, of the first slice whose gradient or y is not finite; empty if all are.
  std::string complaint(const Bucket& bucket, int rank) const;
  void accumulate(const Bucket& bucket);                // the arithmetic of take()
  double squares(std::span<const float> values) const;  // of slices with a gradient in this step

  MemoryKind kind_;
  Feedback feedback_;
  float momentum_;
  std::vector<Slice> slices_;
  std::vector<std::uint8_t> written_;  // per slice: the memory holds something of an earlier step
  at::Tensor main_;                    // e or u, or y alone; undefined where y is the gradient itself
  at::Tensor velocity_;                // v of dgc
  at::Tensor converted_;               // gradients of other types in float32
  std::span<float> y_;
  std::span<const float> g_;
  std::vector<Hidden> hidden_;

  bool measure_;
  ErrorNorms norms_;
  at::Tensor rest_;                     // what is left of y, where no memory holds it
  std::span<float> left_;               // of y, after sent(); empty: nobody asks
  std::vector<std::uint8_t> measured_;  // slices, of this step
};

}  // namespace acp
