// In place of the CUDA parts in builds without CUDA.
#include "comm/cuda/cuda.h"
#include "comm/error.h"

namespace acp::cuda {

bool built() {
  return false;
}

void require() {
  throw ConfigError(
      "device \"cuda\": this build of ACP is without CUDA (configured where there was no nvcc, or with "
      "-Dcuda=disabled); use the device cpu");
}

int devices() {
  return 0;
}

}  // namespace acp::cuda
