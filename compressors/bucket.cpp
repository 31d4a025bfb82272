// The bitmap of used slices, as a tensor and back.
#include "compressors/bucket.h"

#include <ATen/ops/empty.h>

#include <algorithm>

namespace acp {

at::Tensor used_bitmap(const Bucket& bucket) {
  at::Tensor bitmap = at::empty({static_cast<std::int64_t>(bucket.used.size())}, at::kByte);
  std::ranges::copy(bucket.used, bitmap.data_ptr<std::uint8_t>());
  return bitmap;
}

void set_used(Bucket& bucket, const at::Tensor& bitmap) {
  const auto* flags = bitmap.const_data_ptr<std::uint8_t>();
  std::copy(flags, flags + bitmap.numel(), bucket.used.begin());
}

}  // namespace acp
