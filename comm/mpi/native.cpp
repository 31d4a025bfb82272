// MPI's own collectives, non-blocking, and what they are known to send.
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "comm/algorithms/reduce_kernels.h"
#include "comm/error.h"
#include "comm/mpi/transport.h"

namespace acp::mpi {

namespace {

using Kind = Collective::Kind;

// Of the numbers that MPI reduces; half precision is not among them.
std::optional<MPI_Datatype> number_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return MPI_FLOAT;
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kInt:
      return MPI_INT32_T;
    case at::kLong:
      return MPI_INT64_T;
    case at::kByte:
      return MPI_UINT8_T;
    default:
      return std::nullopt;
  }
}

// Of the same width, to be moved and not computed with.
std::optional<MPI_Datatype> bytes_type(std::size_t width) {
  switch (width) {
    case 1:
      return MPI_UINT8_T;
    case 2:
      return MPI_UINT16_T;
    case 4:
      return MPI_UINT32_T;
    case 8:
      return MPI_UINT64_T;
    default:
      return std::nullopt;
  }
}

MPI_Op reduction(ReduceOp op) {
  switch (op) {
    case ReduceOp::min:
      return MPI_MIN;
    case ReduceOp::max:
      return MPI_MAX;
    default:
      return MPI_SUM;  // the average is divided afterwards
  }
}

constexpr std::int64_t most = std::numeric_limits<int>::max();

struct Counts {
  std::vector<int> counts, places;

  explicit Counts(const std::vector<std::int64_t>& sizes) {
    std::int64_t at = 0;
    for (const std::int64_t size : sizes) {
      counts.push_back(static_cast<int>(size));
      places.push_back(static_cast<int>(at));
      at += size;
    }
  }
};

// Seen by every rank alike, for it decides who calls MPI; but for all_to_all_v, whose sizes each rank knows
// alone.
bool countable(const Collective& op) {
  if (op.kind != Kind::all_to_all_v) return op.in.numel() <= most && op.out.numel() <= most;
  if (op.in.numel() > most || op.out.numel() > most) {
    throw ConfigError(
        "MPI_Ialltoallv takes no more than 2147483647 elements of a rank; use the algorithm ring");
  }
  return true;
}

// Gathering is in place on every rank: the input may be the slot already, and MPI allows no other overlap.
void into_slot(const Collective& op, std::size_t place) {
  std::byte* const slot = static_cast<std::byte*>(op.out.data_ptr()) + place;
  if (op.in.nbytes() > 0 && op.in.data_ptr() != slot) std::memcpy(slot, op.in.data_ptr(), op.in.nbytes());
}

std::uint64_t share(std::uint64_t bytes, int parts, int size) {
  return bytes * static_cast<std::uint64_t>(parts) / static_cast<std::uint64_t>(size);
}

}  // namespace

bool MpiTransport::native(const Collective& op) {
  const int n = size();
  if (op.kind == Kind::send_receive) return false;
  if (op.kind == Kind::barrier) {
    collective("MPI_Ibarrier", [](MPI_Comm comm, MPI_Request* r) { return MPI_Ibarrier(comm, r); });
    return true;
  }
  const bool reduces = op.kind == Kind::all_reduce || op.kind == Kind::reduce_scatter;
  const auto type = reduces ? number_type(op.in.scalar_type()) : bytes_type(op.in.element_size());
  if (!type || !countable(op)) return false;
  const MPI_Datatype t = *type;
  const MPI_Op reduce = reduction(op.op);
  void* const out = op.out.data_ptr();
  const void* const in = op.in.data_ptr();
  const auto count = static_cast<int>(op.in.numel());
  const auto out_count = static_cast<int>(op.out.numel());
  const auto bytes = static_cast<std::uint64_t>(op.in.nbytes());
  std::uint64_t sent = 0;  // by the algorithm that moves least
  switch (op.kind) {
    case Kind::all_reduce:
      collective("MPI_Iallreduce", [=](MPI_Comm comm, MPI_Request* r) {
        return MPI_Iallreduce(MPI_IN_PLACE, out, count, t, reduce, comm, r);
      });
      sent = share(2 * bytes, n - 1, n);
      break;
    case Kind::reduce_scatter:
      collective("MPI_Ireduce_scatter_block", [=](MPI_Comm comm, MPI_Request* r) {
        return MPI_Ireduce_scatter_block(in, out, out_count, t, reduce, comm, r);
      });
      sent = share(bytes, n - 1, n);
      break;
    case Kind::all_gather:
      into_slot(op, op.in.nbytes() * static_cast<std::size_t>(rank()));
      collective("MPI_Iallgather", [=](MPI_Comm comm, MPI_Request* r) {
        return MPI_Iallgather(MPI_IN_PLACE, count, t, out, count, t, comm, r);
      });
      sent = bytes * static_cast<std::uint64_t>(n - 1);
      break;
    case Kind::all_gather_v: {
      const Counts to(op.out_counts);
      into_slot(op,
                static_cast<std::size_t>(to.places[static_cast<std::size_t>(rank())]) * op.in.element_size());
      collective("MPI_Iallgatherv", [&](MPI_Comm comm, MPI_Request* r) {
        return MPI_Iallgatherv(MPI_IN_PLACE, count, t, out, to.counts.data(), to.places.data(), t, comm, r);
      });
      sent = share(static_cast<std::uint64_t>(op.out.nbytes()), n - 1, n);
      break;
    }
    case Kind::all_to_all:
      collective("MPI_Ialltoall", [=](MPI_Comm comm, MPI_Request* r) {
        return MPI_Ialltoall(in, count / n, t, out, count / n, t, comm, r);
      });
      sent = share(bytes, n - 1, n);
      break;
    case Kind::all_to_all_v: {
      const Counts from(op.in_counts), to(op.out_counts);
      collective("MPI_Ialltoallv", [&](MPI_Comm comm, MPI_Request* r) {
        return MPI_Ialltoallv(in, from.counts.data(), from.places.data(), t, out, to.counts.data(),
                              to.places.data(), t, comm, r);
      });
      sent = bytes - static_cast<std::uint64_t>(op.in_counts[static_cast<std::size_t>(rank())]) *
                         op.in.element_size();
      break;
    }
    case Kind::broadcast: {
      const int root = op.root;
      collective("MPI_Ibcast",
                 [=](MPI_Comm comm, MPI_Request* r) { return MPI_Ibcast(out, count, t, root, comm, r); });
      sent = rank() == root ? bytes : 0;
      break;
    }
    default:
      return false;
  }
  if (op.op == ReduceOp::average && reduces) {
    divide(static_cast<std::byte*>(out), op.out.numel(), op.out.scalar_type(), n);
  }
  bytes_sent_ += sent;
  estimated_ = estimated_ || (sent > 0);
  return true;
}

bool MpiTransport::prefers_native(const Collective&) const {
  return false;
}

}  // namespace acp::mpi
