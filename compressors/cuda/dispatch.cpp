// See dispatch.h.
#include "compressors/cuda/dispatch.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <atomic>

#include "comm/error.h"

namespace acp::device {
namespace {

std::atomic<const Kernels*>& emulated() {
  static std::atomic<const Kernels*> kernels{nullptr};
  return kernels;
}

// libtorch's stream 0 is CUDA's default stream; the handles of others are known to newer versions alone.
template <class Stream>
void* handle_of(const Stream& stream) {
  if (stream.id() == 0) return nullptr;
  if constexpr (requires { stream.native_handle(); }) {
    return stream.native_handle();
  } else {
    throw ConfigError("this libtorch does not tell the handle of a stream: leave the default stream in use");
  }
}

}  // namespace

const Kernels* kernels_for(const at::Tensor& x) {
  if (x.is_cuda()) return cuda_kernels();
  return x.is_cpu() ? emulated().load(std::memory_order_relaxed) : nullptr;
}

void emulate(const Kernels* kernels) {
  emulated().store(kernels, std::memory_order_relaxed);
}

Place place_of(const at::Tensor& x) {
  if (x.is_cpu()) return {};
  const c10::impl::VirtualGuardImpl device(x.device().type());
  return {x.device().index(), handle_of(device.getStream(x.device()))};
}

at::Tensor room(std::size_t bytes, const at::Tensor& like) {
  return at::empty({static_cast<std::int64_t>(bytes)}, like.options().dtype(at::kByte));
}

std::byte* bytes_of(const at::Tensor& x) {
  return static_cast<std::byte*>(x.data_ptr());
}

}  // namespace acp::device
