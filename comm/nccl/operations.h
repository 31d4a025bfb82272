// A collective as NCCL's calls.
#pragma once

#include <nccl.h>

#include <cstdint>

#include "comm/collective.h"

namespace acp::nccl {

// ConfigError for what NCCL does not do: reductions of other types than float16, bfloat16, float32, float64,
// int32, int64, uint8, and a tensor that is on no GPU.
void check_operation(const Collective& op);

// Queues the calls for a checked `op` (no barrier) on `stream`, inside one group. Data that is only moved
// goes as bytes.
void launch(const Collective& op, int rank, int size, ncclComm_t comm, cudaStream_t stream);

// What this rank sends by the usual algorithms: a ring for reductions and gathering.
std::uint64_t volume(const Collective& op, int rank, int size);

}  // namespace acp::nccl
