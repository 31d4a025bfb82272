// Compressors that work on the CPU alone, for gradients on a GPU.
#pragma once

#include <functional>
#include <memory>

#include "compressors/compressor.h"

namespace acp {

// `make` makes the compressor of a bucket like this one on the CPU. In every step gradients are copied there
// and the averages back, and messages cross to the GPU for their collectives, so that any backend carries
// them: the host waits for each of these copies. State and error memory are on the CPU.
std::unique_ptr<Compressor> make_staged(
    const Bucket& bucket, const std::function<std::unique_ptr<Compressor>(const Bucket&)>& make);

}  // namespace acp
