// What methods that keep a fraction of the elements leave out of a tensor, reckoned without running them.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <vector>

#include "compressors/ratio.h"

namespace acp {

class RatioErrors {
 public:
  // Of the part of the specification that has a ratio. ConfigError where no rule is known for the method.
  explicit RatioErrors(const std::string& compressor);

  // Absolute Frobenius norms |A - decompress(A)|, one for each ratio. Of methods that keep the largest, or
  // (dgc, redsync, sidco) what is above an estimate of their threshold: of the k largest, by one sort. Of
  // random choices the expected one: |A| sqrt(1 - p), p being the probability of an element; |A| sqrt(1 / p -
  // 1) where what is kept is divided by p.
  std::vector<double> operator()(const at::Tensor& tensor, std::span<const double> ratios) const;

 private:
  Ratio ratio_;
  bool random_ = false, replace_ = false, unbiased_ = false;
};

}  // namespace acp
