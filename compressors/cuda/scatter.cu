// The sum of sparse payloads on CUDA.
#include "compressors/cuda/cuda_kernels.h"
#include "compressors/cuda/scatter.h"

namespace acp::device {

void CudaKernels::scatter(std::span<const Scatter> parts, int ranks, std::int64_t stride, Combined combined,
                          Place place) const {
  device::scatter(parts, ranks, stride, combined, CudaLaunch(place));
}

}  // namespace acp::device
