// Exact top-k on CUDA.
#include "compressors/cuda/cuda_kernels.h"
#include "compressors/cuda/select.h"

namespace acp::device {

void CudaKernels::top_k(std::span<const TopK> parts, std::byte* scratch, Place place) const {
  device::top_k(parts, scratch, CudaLaunch(place));
}

}  // namespace acp::device
