// In place of the kernels in builds without nvcc: tensors on a GPU are worked on by libtorch, or on the CPU.
#include "compressors/cuda/kernels.h"

namespace acp::device {

const Kernels* cuda_kernels() {
  return nullptr;
}

}  // namespace acp::device
