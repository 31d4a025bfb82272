// The device of a rank: what it is called, whether it can be had, and which one it is.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "acp/environment.h"
#include "comm/communicator.h"
#include "comm/transport.h"

namespace acp {

// "cpu" or "cuda": what was asked for ("" = not asked: cuda for nccl, else cpu). ConfigError: an unknown
// name, a device that this build or machine lacks, a backend that does not go with it.
std::string check_device(const std::string& asked, const std::string& backend);

// Whether the transport of every rank takes memory of its GPU (CUDA-aware MPI), which it is then told.
// `channel` is one over it; a collective call.
bool reaches_devices(Transport& transport, Communicator& channel, const Variables& environment);

// A channel that takes tensors of the device, made of one that takes those in the host's memory (or, for
// nccl, both). `direct`: reaches_devices().
std::unique_ptr<Communicator> reach_device(std::unique_ptr<Communicator> channel, const std::string& device,
                                           bool direct);

// The device of the rank at `place` on its host, made the calling thread's current one. Ranks share GPUs
// where there are more of them; ConfigError with nccl, which refuses that.
c10::Device take_device(const std::string& device, const std::string& backend, const LocalPlace& place);

}  // namespace acp
