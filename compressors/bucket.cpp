// The bookkeeping of missing gradients that every exchange shares.
#include "compressors/bucket.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "comm/error.h"

namespace acp {

void put_missing(const Bucket& bucket, const at::Tensor& count) {
  count.fill_(static_cast<double>(bucket.missing()));
}

bool some_missing(const at::Tensor& count) {
  return count.item<double>() != 0;
}

at::Tensor used_bitmap(const Bucket& bucket) {
  auto bitmap = at::empty({static_cast<std::int64_t>(bucket.used.size())}, at::kByte);
  std::ranges::copy(bucket.used, bitmap.data_ptr<std::uint8_t>());
  return bitmap.to(bucket.grads.device());
}

void set_used(Bucket& bucket, const at::Tensor& bitmap) {
  const auto flags = bitmap.to(at::kCPU).contiguous();
  if (flags.scalar_type() != at::kByte || flags.numel() != static_cast<std::int64_t>(bucket.used.size())) {
    throw Error("bucket " + std::to_string(bucket.index) + ": a bitmap of " + std::to_string(flags.numel()) +
                " elements for " + std::to_string(bucket.used.size()) + " parameters");
  }
  std::copy_n(flags.data_ptr<std::uint8_t>(), flags.numel(), bucket.used.begin());
}

}  // namespace acp
