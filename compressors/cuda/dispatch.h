// Which kernels work on a tensor, and where: what compressors ask by the tensor's device.
#pragma once

#include <ATen/core/Tensor.h>

#include "compressors/cuda/kernels.h"

namespace acp::device {

// Null for the CPU, whose forms are in compressors/kernels, and for GPUs in builds without nvcc.
const Kernels* kernels_for(const at::Tensor& x);

// For tests: what kernels_for() answers for tensors on the CPU; null ends it. Not while compressors work.
void emulate(const Kernels* kernels);

// The tensor's GPU, and the stream on which libtorch queues the calling thread's work.
Place place_of(const at::Tensor& x);

// Room on the tensor's device; bytes beyond its end are never used by work queued there later, as with any
// tensor.
at::Tensor room(std::size_t bytes, const at::Tensor& like);
std::byte* bytes_of(const at::Tensor& x);

}  // namespace acp::device
