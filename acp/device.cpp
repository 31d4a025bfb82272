// See device.h.
#include "acp/device.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "comm/cuda/cuda.h"
#include "comm/error.h"
#include "comm/log.h"
#include "comm/mpi/mpi.h"
#include "comm/nccl/nccl.h"
#include "comm/staged/staged.h"

namespace acp {

namespace {

c10::Device gpu_of(int local_rank) {
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(local_rank % cuda::devices())};
}

}  // namespace

std::string check_device(const std::string& asked, const std::string& backend) {
  if (!asked.empty() && asked != "cpu" && asked != "cuda") {
    throw ConfigError("unknown device \"" + asked + "\"; known: cpu, cuda");
  }
  if (backend == "nccl") {
    nccl::require();
    if (asked == "cpu") {
      throw ConfigError(
          "backend \"nccl\" moves tensors on GPUs: give the device cuda with it, or take the backend mpi or "
          "tcp");
    }
    return "cuda";
  }
  if (asked != "cuda") return "cpu";
  cuda::require();
  return "cuda";
}

bool reaches_devices(Transport& transport, Communicator& channel, const Variables& environment) {
  const at::Tensor all = at::full({1}, transport.reaches_device() ? 1 : 0, at::kLong);
  Collective op = Collective::all_reduce(all, ReduceOp::min);
  op.label = "whether MPI is CUDA-aware";
  channel.perform(std::move(op));
  if (all.item<std::int64_t>() == 0) return false;
  const auto place = local_place(environment);
  const int rank = place ? place->rank : mpi::local_rank(transport).rank;
  mpi::use_device(transport, gpu_of(rank));
  return true;
}

std::unique_ptr<Communicator> reach_device(std::unique_ptr<Communicator> channel, const std::string& device,
                                           bool direct) {
  if (device == "cpu" || channel->backend() == "nccl") return channel;
  Staging staging;
  staging.direct = direct;
  return stage(std::move(channel), stream_copies(), staging);
}

c10::Device take_device(const std::string& device, const std::string& backend, const LocalPlace& place) {
  if (device == "cpu") return c10::kCPU;
  const int count = cuda::devices();
  if (place.size > count && place.rank == 0 && backend != "nccl") {
    log_info(std::to_string(place.size) + " ranks on this host, of which this one sees " +
             std::to_string(count) + " GPUs: they share them, unless each sees others");
  }
  const c10::Device mine = gpu_of(place.rank);
  c10::impl::VirtualGuardImpl(mine.type()).setDevice(mine);
  return mine;
}

}  // namespace acp
