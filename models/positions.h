// Sinusoids of positions (Vaswani et al., NIPS 2017, section 3.5): sines in the first half of the width,
// cosines in the second.
#pragma once

#include <ATen/core/Tensor.h>

namespace acp::models {

// `positions` [n], floating-point; result [n, width] of the same type; width is even.
at::Tensor sinusoids(const at::Tensor& positions, std::int64_t width);

}  // namespace acp::models
