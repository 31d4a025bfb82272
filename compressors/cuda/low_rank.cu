// Products of low-rank compression on CUDA.
#include "compressors/cuda/cuda_kernels.h"
#include "compressors/cuda/low_rank.h"

namespace acp::device {

void CudaKernels::times_q(std::span<const Product> parts, Place place) const {
  device::times_q(parts, CudaLaunch(place));
}

void CudaKernels::times_p(std::span<const Product> parts, std::byte* scratch, Place place) const {
  device::times_p(parts, scratch, CudaLaunch(place));
}

void CudaKernels::outer(std::span<const Product> parts, Write write, Place place) const {
  device::outer(parts, write, CudaLaunch(place));
}

}  // namespace acp::device
