// Fused copies and error feedback on CUDA.
#include "compressors/cuda/copy.h"
#include "compressors/cuda/cuda_kernels.h"

namespace acp::device {

const Kernels* cuda_kernels() {
  static const CudaKernels kernels;
  return &kernels;
}

void CudaKernels::copy(std::span<const Copy> pieces, Type from, Type to, float scale, Place place) const {
  device::copy(pieces, from, to, scale, CudaLaunch(place));
}

void CudaKernels::accumulate(std::span<const Sum> sums, float scale, Place place) const {
  device::accumulate(sums, scale, CudaLaunch(place));
}

void CudaKernels::spoil(float* number, const std::uint32_t* largest, Place place) const {
  const CudaLaunch launch(place);
  launch(1, SpoilBody{number, largest});
}

}  // namespace acp::device
