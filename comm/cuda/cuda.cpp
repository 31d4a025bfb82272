// Programs are not linked with libtorch_cuda, which needs 3 GB of CUDA's libraries: they start without, and
// load it when they are to work on a GPU.
#include "comm/cuda/cuda.h"

#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <string>

#include "comm/error.h"

namespace acp::cuda {

namespace {

bool registered() {
  return c10::impl::hasDeviceGuardImpl(at::kCUDA);
}

[[noreturn]] void refuse(const std::string& what) {
  throw ConfigError("device \"cuda\": " + what);
}

}  // namespace

bool built() {
  return true;
}

void require() {
  // Never closed: libtorch keeps pointers into it.
  if (!registered() && dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    const char* reason = dlerror();
    refuse("libtorch's CUDA part cannot be loaded (" +
           std::string(reason == nullptr ? "unknown reason" : reason) +
           "); scripts/setup.sh --cuda installs what it needs");
  }
  if (!registered()) refuse("this libtorch is one without CUDA; scripts/setup.sh --cuda installs one with");
  if (devices() == 0) {
    refuse(
        "no GPU was found: is there one, does nvidia-smi list it, and does CUDA_VISIBLE_DEVICES leave it "
        "visible? Without one use the device cpu");
  }
  if (!at::globalContext().hasCUDA()) {
    refuse(
        "torch was used before its CUDA part was loaded; call acp::init() first, or link the program with "
        "torch_cuda");
  }
}

int devices() {
  return registered() ? c10::impl::VirtualGuardImpl(at::kCUDA).deviceCount() : 0;
}

}  // namespace acp::cuda
