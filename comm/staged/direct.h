// Collectives of tensors on a GPU over a backend that sends from, and receives into, the GPU's memory by
// itself.
#pragma once

#include <c10/core/Stream.h>

#include <functional>
#include <optional>

#include "comm/communicator.h"
#include "comm/streams.h"

namespace acp {

// Performs a checked `op`, blocking, by send_receive of `host`, which has to take the tensors' memory
// (CUDA-aware MPI). Reductions add up on the device, in rank order, half precision in float32 and rounded
// once; they send what a ring sends (docs/algorithms.md, rank order). `wait` returns when the device has come
// to a mark: messages know nothing of streams. `stream`: for the sums of tensors on a GPU; one for all calls,
// since memory that is freed stays with the stream that it was used on. The inputs are there.
void perform_direct(Communicator& host, const Collective& op, const std::function<void(const MarkPtr&)>& wait,
                    const std::optional<c10::Stream>& stream = std::nullopt);

}  // namespace acp
