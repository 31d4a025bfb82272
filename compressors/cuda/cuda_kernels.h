// The kernels as CUDA runs them; for the .cu files of this folder alone.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "comm/error.h"
#include "compressors/cuda/block.h"
#include "compressors/cuda/kernels.h"

namespace acp::device {

inline void check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  throw Error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(code) + " (" + cudaGetErrorName(code) +
              ")");
}

// A block of a launch.
struct CudaBlock {
  ACP_HOST_DEVICE std::int64_t index() const {
#ifdef __CUDA_ARCH__
    return blockIdx.x;
#else
    return 0;
#endif
  }
  template <class F>
  ACP_HOST_DEVICE void each(const F& f) {
#ifdef __CUDA_ARCH__
    f(static_cast<int>(threadIdx.x));
    __syncthreads();
#endif
  }
  ACP_HOST_DEVICE std::uint32_t add([[maybe_unused]] std::uint32_t* to,
                                    [[maybe_unused]] std::uint32_t number) {
#ifdef __CUDA_ARCH__
    return atomicAdd(to, number);
#else
    return 0;
#endif
  }
  ACP_HOST_DEVICE void raise([[maybe_unused]] std::uint32_t* to, [[maybe_unused]] std::uint32_t number) {
#ifdef __CUDA_ARCH__
    atomicMax(to, number);
#endif
  }
};

template <class Body>
__global__ void __launch_bounds__(threads) run(const __grid_constant__ Body body) {
  __shared__ typename Body::Shared shared;
  CudaBlock block;
  body(block, shared);
}

// Queues bodies on the stream of a place. The thread's current GPU is as before when this is gone.
class CudaLaunch {
 public:
  explicit CudaLaunch(Place place) : place_(place) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ != place.device) check(cudaSetDevice(place.device), "cudaSetDevice");
  }
  CudaLaunch(const CudaLaunch&) = delete;
  CudaLaunch& operator=(const CudaLaunch&) = delete;
  ~CudaLaunch() {
    if (before_ != place_.device) cudaSetDevice(before_);
  }

  template <class Body>
  void operator()(std::int64_t blocks, const Body& body) const {
    static_assert(sizeof(Body) <= 4096, "a launch takes 4 KB of arguments");
    run<Body><<<static_cast<unsigned>(blocks), threads, 0, static_cast<cudaStream_t>(place_.stream)>>>(body);
    check(cudaGetLastError(), "the launch of a kernel");
  }

 private:
  Place place_;
  int before_ = 0;
};

class CudaKernels final : public Kernels {
 public:
  void copy(std::span<const Copy> pieces, Type from, Type to, float scale, Place place) const override;
  void accumulate(std::span<const Sum> sums, float scale, Place place) const override;
  void spoil(float* number, const std::uint32_t* largest, Place place) const override;
  void top_k(std::span<const TopK> parts, std::byte* scratch, Place place) const override;
  void scatter(std::span<const Scatter> parts, int ranks, std::int64_t stride, Combined combined,
               Place place) const override;
  void encode(std::span<const Encode> parts, const LevelCode& code, std::byte* scratch,
              Place place) const override;
  void decode(std::span<const Decode> parts, const LevelCode& code, int ranks, std::int64_t stride,
              Combined combined, Place place) const override;
  void orthogonalize(std::span<const Basis> parts, Place place) const override;
  void times_q(std::span<const Product> parts, Place place) const override;
  void times_p(std::span<const Product> parts, std::byte* scratch, Place place) const override;
  void outer(std::span<const Product> parts, Write write, Place place) const override;
};

}  // namespace acp::device
