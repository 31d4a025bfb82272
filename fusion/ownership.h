// Tells the thread sanitizer who owns a piece of a bucket: libtorch's own writes are invisible to it.
#pragma once

#include <ATen/core/Tensor.h>

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_write_range(void* address, unsigned long size);
#endif

namespace acp {

// Called wherever a bucket or a slice changes hands (hook, engine, user), by the thread that owns it now. In
// thread sanitizer builds it counts as a write to all of `flat` (contiguous); otherwise it is nothing.
inline void take_ownership([[maybe_unused]] const at::Tensor& flat) {
#if defined(__SANITIZE_THREAD__)
  if (flat.device().is_cpu() && flat.numel() > 0) __tsan_write_range(flat.data_ptr(), flat.nbytes());
#endif
}

}  // namespace acp
