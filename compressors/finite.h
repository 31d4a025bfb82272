// NaN and infinity in gradients: found before they reach an error memory, where they would stay for ever.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "compressors/bucket.h"

namespace acp {

// Of a contiguous tensor of any floating dtype.
bool all_finite(const at::Tensor& x);

// "rank 1: the gradient of parameter "fc.weight" has NaN or infinite values".
std::string not_finite(int rank, const std::string& parameter);

// What an error says behind that.
inline constexpr auto advice_not_finite =
    "; lower the learning rate, clip, or leave such steps out with nonfinite \"skip\"";

// The same of a sum of gradient and error memory.
std::string overflows(int rank, const std::string& parameter);

// DataError as not_finite() if some gradient that this rank has in this step is not finite. For compressors
// that keep something from step to step: the first thing in their exchange.
void check_finite(const Bucket& bucket, int rank);
void check_finite(const Bucket& bucket, std::size_t slice, int rank);  // of one slice

}  // namespace acp
