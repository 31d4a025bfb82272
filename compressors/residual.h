// Error memory: what a rank's compression left out in earlier steps, added to its next gradient (error
// feedback).
#pragma once

#include <ATen/core/Tensor.h>

#include "compressors/bucket.h"
#include "compressors/compressor.h"

namespace acp {

// The tensor of one kind that `state` holds for a parameter; an undefined one if there is none.
at::Tensor find_state(const State& state, const std::string& parameter, const std::string& kind);

// ConfigError that names parameter, kind and both shapes.
[[noreturn]] void refuse_state(const std::string& parameter, const std::string& kind, const at::Tensor& given,
                               at::IntArrayRef expected);

// One flat tensor per bucket, laid out like its gradients; starts at zero. Rank-local.
class Residual {
 public:
  // `type` is the floating type in which the errors are kept.
  Residual(const Bucket& bucket, at::ScalarType type);

  // error += gradient; what compression leaves out is then to be left here. Slices without gradient hold
  // zeros, so theirs stay as they are.
  const at::Tensor& compensate(const Bucket& bucket);

  const at::Tensor& flat() const { return flat_; }
  at::Tensor view(const Slice& slice) const { return flat_.narrow(0, slice.offset, slice.numel()); }
  at::Tensor matrix(const Slice& slice) const { return view(slice).view({slice.rows, slice.cols}); }

  // Kind "error", in the parameters' shapes.
  void save(State& state) const;
  void load(const State& state);

 private:
  std::vector<Slice> slices_;
  at::Tensor flat_;
};

}  // namespace acp
