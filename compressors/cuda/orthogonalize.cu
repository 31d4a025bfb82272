// Batched orthogonalisation on CUDA.
#include "compressors/cuda/cuda_kernels.h"
#include "compressors/cuda/orthogonalize.h"

namespace acp::device {

void CudaKernels::orthogonalize(std::span<const Basis> parts, Place place) const {
  device::orthogonalize(parts, CudaLaunch(place));
}

}  // namespace acp::device
