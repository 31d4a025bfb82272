// Which of NCCL's calls make up each kind of collective.
#include "comm/nccl/operations.h"

#include <numeric>
#include <vector>

#include "comm/algorithms/reduce_kernels.h"
#include "comm/error.h"
#include "comm/nccl/check.h"

namespace acp::nccl {

namespace {

using Kind = Collective::Kind;
using Counts = std::vector<std::int64_t>;

ncclDataType_t number_type(at::ScalarType type) {
  switch (type) {
    case at::kHalf:
      return ncclFloat16;
    case at::kBFloat16:
      return ncclBfloat16;
    case at::kDouble:
      return ncclFloat64;
    case at::kInt:
      return ncclInt32;
    case at::kLong:
      return ncclInt64;
    case at::kByte:
      return ncclUint8;
    default:
      return ncclFloat32;  // check_operation() has let no other through
  }
}

ncclRedOp_t reduction(ReduceOp op) {
  switch (op) {
    case ReduceOp::min:
      return ncclMin;
    case ReduceOp::max:
      return ncclMax;
    case ReduceOp::average:
      return ncclAvg;
    case ReduceOp::sum:
      break;
  }
  return ncclSum;
}

// A group's calls become one launch; ended also when one of them is refused, for the group is the thread's.
class Group {
 public:
  explicit Group(ncclComm_t comm) : comm_(comm) { check("ncclGroupStart", ncclGroupStart(), comm_); }
  ~Group() {
    if (!ended_) ncclGroupEnd();
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  void end() {
    ended_ = true;
    check("ncclGroupEnd", ncclGroupEnd(), comm_);
  }

 private:
  ncclComm_t comm_;
  bool ended_ = false;
};

// Sends and receives of bytes.
class Messages {
 public:
  Messages(ncclComm_t comm, cudaStream_t stream) : comm_(comm), stream_(stream) {}
  void send(const std::byte* data, std::size_t bytes, int to) {
    if (bytes > 0) check("ncclSend", ncclSend(data, bytes, ncclUint8, to, comm_, stream_), comm_);
  }
  void receive(std::byte* data, std::size_t bytes, int from) {
    if (bytes > 0) check("ncclRecv", ncclRecv(data, bytes, ncclUint8, from, comm_, stream_), comm_);
  }

 private:
  ncclComm_t comm_;
  cudaStream_t stream_;
};

Counts equal(std::int64_t numel, int size) {
  return Counts(static_cast<std::size_t>(size), numel / size);
}

// Everybody's whole input to everybody, at its place.
void gather(const Collective& op, const Counts& counts, int rank, Messages& messages) {
  const auto* in = static_cast<const std::byte*>(op.in.const_data_ptr());
  auto* out = static_cast<std::byte*>(op.out.data_ptr());
  const std::size_t width = op.out.element_size();
  for (std::size_t p = 0; p < counts.size(); ++p) {
    const int peer = static_cast<int>(p);
    const std::size_t theirs = static_cast<std::size_t>(counts[p]) * width;
    if (peer != rank || in != out) {  // the input may be the slot already
      messages.send(in, op.in.nbytes(), peer);
      messages.receive(out, theirs, peer);
    }
    out += theirs;
  }
}

void exchange(const Collective& op, const Counts& in_counts, const Counts& out_counts, Messages& messages) {
  const auto* in = static_cast<const std::byte*>(op.in.const_data_ptr());
  auto* out = static_cast<std::byte*>(op.out.data_ptr());
  const std::size_t width = op.out.element_size();
  for (std::size_t p = 0; p < in_counts.size(); ++p) {
    const int peer = static_cast<int>(p);
    const std::size_t mine = static_cast<std::size_t>(in_counts[p]) * width;
    const std::size_t theirs = static_cast<std::size_t>(out_counts[p]) * width;
    messages.send(in, mine, peer);
    messages.receive(out, theirs, peer);
    in += mine;
    out += theirs;
  }
}

void send_receive(const Collective& op, Messages& messages) {
  if (op.send_to >= 0) {
    messages.send(static_cast<const std::byte*>(op.in.const_data_ptr()), op.in.nbytes(), op.send_to);
  }
  if (op.receive_from >= 0) {
    messages.receive(static_cast<std::byte*>(op.out.data_ptr()), op.out.nbytes(), op.receive_from);
  }
}

bool reduces(Kind kind) {
  return kind == Kind::all_reduce || kind == Kind::reduce_scatter;
}

}  // namespace

void check_operation(const Collective& op) {
  for (const at::Tensor* x : {&op.in, &op.out}) {
    if (x->defined() && !x->device().is_cuda()) {
      throw ConfigError(std::string(to_string(op.kind)) + ": one of its tensors is on " + x->device().str() +
                        "; NCCL moves tensors on GPUs only");
    }
  }
  if (reduces(op.kind)) check_reducible(op.in.scalar_type(), op.op);
}

void launch(const Collective& op, int rank, int size, ncclComm_t comm, cudaStream_t stream) {
  const auto in_count = static_cast<std::size_t>(op.in.defined() ? op.in.numel() : 0);
  const auto out_count = static_cast<std::size_t>(op.out.defined() ? op.out.numel() : 0);
  const void* in = op.in.defined() ? op.in.const_data_ptr() : nullptr;
  void* out = op.out.defined() ? op.out.data_ptr() : nullptr;
  if (in_count == 0 && out_count == 0) return;
  Messages messages(comm, stream);
  Group group(comm);
  switch (op.kind) {
    case Kind::all_reduce:
      check(
          "ncclAllReduce",
          ncclAllReduce(in, out, in_count, number_type(op.in.scalar_type()), reduction(op.op), comm, stream),
          comm);
      break;
    case Kind::reduce_scatter:
      check("ncclReduceScatter",
            ncclReduceScatter(in, out, out_count, number_type(op.in.scalar_type()), reduction(op.op), comm,
                              stream),
            comm);
      break;
    case Kind::all_gather:
      check("ncclAllGather", ncclAllGather(in, out, op.in.nbytes(), ncclUint8, comm, stream), comm);
      break;
    case Kind::broadcast:
      check("ncclBroadcast", ncclBroadcast(out, out, op.out.nbytes(), ncclUint8, op.root, comm, stream),
            comm);
      break;
    case Kind::all_gather_v:
      gather(op, op.out_counts, rank, messages);
      break;
    case Kind::all_to_all: {
      const Counts pieces = equal(op.in.numel(), size);
      exchange(op, pieces, pieces, messages);
      break;
    }
    case Kind::all_to_all_v:
      exchange(op, op.in_counts, op.out_counts, messages);
      break;
    case Kind::send_receive:
      send_receive(op, messages);
      break;
    case Kind::barrier:
      break;  // has no tensors, and goes to the host's backend
  }
  group.end();
}

std::uint64_t volume(const Collective& op, int rank, int size) {
  const auto n = static_cast<std::uint64_t>(size), others = n - 1;
  const std::uint64_t in = op.in.defined() ? op.in.nbytes() : 0;
  switch (op.kind) {
    case Kind::all_reduce:
      return 2 * in * others / n;
    case Kind::reduce_scatter:
    case Kind::all_to_all:
      return in * others / n;
    case Kind::all_gather:
    case Kind::all_gather_v:
      return in * others;
    case Kind::all_to_all_v: {
      const auto self = static_cast<std::uint64_t>(op.in_counts[static_cast<std::size_t>(rank)]);
      return in - self * op.in.element_size();
    }
    case Kind::send_receive:
      return op.send_to >= 0 && op.send_to != rank ? in : 0;
    case Kind::broadcast:
      return rank == op.root && size > 1 ? in : 0;
    case Kind::barrier:
      break;
  }
  return 0;
}

}  // namespace acp::nccl
