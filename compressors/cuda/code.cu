// Signs and levels of few bits on CUDA.
#include "compressors/cuda/code.h"
#include "compressors/cuda/cuda_kernels.h"

namespace acp::device {

void CudaKernels::encode(std::span<const Encode> parts, const LevelCode& code, std::byte* scratch,
                         Place place) const {
  device::encode(parts, code, scratch, CudaLaunch(place));
}

void CudaKernels::decode(std::span<const Decode> parts, const LevelCode& code, int ranks, std::int64_t stride,
                         Combined combined, Place place) const {
  device::decode(parts, code, ranks, stride, combined, CudaLaunch(place));
}

}  // namespace acp::device
