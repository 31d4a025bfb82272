// The kernels of a GPU, run on the host: the same bodies and the same cutting into blocks, thread after
// thread.
#pragma once

#include "compressors/cuda/dispatch.h"
#include "compressors/cuda/kernels.h"

namespace acp::device {

// `backwards`: blocks and threads from the last to the first. Results that differ would betray a race.
const Kernels& emulated_kernels(bool backwards = false);

// While it lives, tensors on the CPU are worked on by them.
class Emulation {
 public:
  explicit Emulation(bool backwards = false) { emulate(&emulated_kernels(backwards)); }
  Emulation(const Emulation&) = delete;
  Emulation& operator=(const Emulation&) = delete;
  ~Emulation() { emulate(nullptr); }
};

}  // namespace acp::device
