// See finite.h.
#include "compressors/finite.h"

#include <ATen/ATen.h>

#include <bit>
#include <span>

#include "comm/error.h"
#include "compressors/names.h"

namespace acp {

bool all_finite(const at::Tensor& x) {
  if (x.scalar_type() != at::kFloat || !x.device().is_cpu()) return at::isfinite(x).all().item<bool>();
  // All exponent bits set is NaN or infinity; no branch, so that the loop works on whole vectors.
  std::uint32_t bad = 0;
  for (const float value : std::span(x.const_data_ptr<float>(), static_cast<std::size_t>(x.numel()))) {
    bad |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(value) & 0x7f800000U) == 0x7f800000U);
  }
  return bad == 0;
}

std::string not_finite(int rank, const std::string& parameter) {
  return "rank " + std::to_string(rank) + ": the gradient of parameter " + in_quotes(parameter) +
         " has NaN or infinite values";
}

std::string overflows(int rank, const std::string& parameter) {
  return "rank " + std::to_string(rank) + ": the gradient of parameter " + in_quotes(parameter) +
         " overflows float32 together with what its error memory holds; lower the learning rate, or clip";
}

void check_finite(const Bucket& bucket, std::size_t slice, int rank) {
  const auto& one = bucket.slices[slice];
  if (bucket.used[slice] != 0 && !all_finite(bucket.view(one)))
    throw DataError(not_finite(rank, one.name) + advice_not_finite);
}

void check_finite(const Bucket& bucket, int rank) {
  for (std::size_t k = 0; k < bucket.slices.size(); ++k) check_finite(bucket, k, rank);
}

}  // namespace acp
