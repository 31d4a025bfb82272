// Checks a collective against rank and size, and picks the algorithm that performs it.
#include <algorithm>
#include <string>

#include "comm/algorithms/algorithms.h"
#include "comm/algorithms/choice.h"
#include "comm/algorithms/reduce_kernels.h"
#include "comm/algorithms/wire.h"
#include "comm/error.h"

namespace acp {

namespace {

using Kind = Collective::Kind;

[[noreturn]] void refuse(const Collective& op, const std::string& what) {
  throw ConfigError(std::string(to_string(op.kind)) + ": " + what);
}

std::string number(std::int64_t n) {
  return std::to_string(n);
}

bool reduces(Kind kind) {
  return kind == Kind::all_reduce || kind == Kind::reduce_scatter;
}

bool is_half(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16;
}

bool overlap(const at::Tensor& a, const at::Tensor& b) {
  if (a.nbytes() == 0 || b.nbytes() == 0) return false;
  const auto* x = static_cast<const std::byte*>(a.data_ptr());
  const auto* y = static_cast<const std::byte*>(b.data_ptr());
  return std::less<>()(x, y + b.nbytes()) && std::less<>()(y, x + a.nbytes());
}

std::vector<Range> gather_chunks(const Collective& op, int size) {
  return op.kind == Kind::all_gather ? equal_chunks(op.out.numel(), size) : consecutive_chunks(op.out_counts);
}

void check_counts(const Collective& op, const std::vector<std::int64_t>& counts, int size) {
  if (static_cast<int>(counts.size()) != size) {
    refuse(op, number(static_cast<std::int64_t>(counts.size())) + " counts for " + number(size) + " ranks");
  }
}

void check_rank(const Collective& op, const char* name, int value, int size) {
  if (value >= size) {
    refuse(op, std::string(name) + " is rank " + number(value) + ", but there are only " + number(size) +
                   " ranks");
  }
}

// The tensors' sizes against the number of ranks.
void check_sizes(const Collective& op, int rank, int size) {
  const std::int64_t in = op.in.defined() ? op.in.numel() : 0, out = op.out.defined() ? op.out.numel() : 0;
  switch (op.kind) {
    case Kind::reduce_scatter:
      if (in != out * size) {
        refuse(op, "x has " + number(in) + " elements; " + number(size) + " ranks with " + number(out) +
                       " each need " + number(out * size));
      }
      break;
    case Kind::all_gather:
      if (out != in * size) {
        refuse(op, "`all` has " + number(out) + " elements; " + number(size) + " ranks with " + number(in) +
                       " each need " + number(in * size));
      }
      break;
    case Kind::all_gather_v:
      check_counts(op, op.out_counts, size);
      if (in != op.out_counts[static_cast<std::size_t>(rank)]) {
        refuse(op, "this rank has " + number(in) + " elements, but its count is " +
                       number(op.out_counts[static_cast<std::size_t>(rank)]));
      }
      break;
    case Kind::all_to_all:
      if (in % size != 0) {
        refuse(op, number(in) + " elements cannot be cut into " + number(size) +
                       " equal pieces; use all_to_all_v");
      }
      break;
    case Kind::all_to_all_v: {
      check_counts(op, op.in_counts, size);
      check_counts(op, op.out_counts, size);
      const auto self = static_cast<std::size_t>(rank);
      if (op.in_counts[self] != op.out_counts[self]) {
        refuse(op, "this rank sends itself " + number(op.in_counts[self]) + " elements and expects " +
                       number(op.out_counts[self]));
      }
      break;
    }
    case Kind::send_receive:
      check_rank(op, "the receiver", op.send_to, size);
      check_rank(op, "the sender", op.receive_from, size);
      if ((op.send_to == rank) != (op.receive_from == rank)) {
        refuse(op, "a rank that sends to itself must receive from itself in the same call");
      }
      if (op.send_to == rank && in != out) {
        refuse(op, "this rank sends itself " + number(in) + " elements and expects " + number(out));
      }
      break;
    case Kind::broadcast:
      check_rank(op, "the root", op.root, size);
      break;
    case Kind::all_reduce:
    case Kind::barrier:
      break;
  }
}

bool in_its_own_slot(const Collective& op, int rank, int size) {
  if (op.kind != Kind::all_gather && op.kind != Kind::all_gather_v) return false;
  const Range slot = gather_chunks(op, size)[static_cast<std::size_t>(rank)];
  return op.in.data_ptr() == Elements(op.out).at(slot.begin);
}

void gather(Wire& wire, const Collective& op, bool small) {
  const auto chunks = gather_chunks(op, wire.size);
  const Elements in(op.in), out(op.out);
  copy(in[{0, op.in.numel()}], out[chunks[static_cast<std::size_t>(wire.rank)]]);
  if (small) {
    direct_all_gather(wire, op.out, chunks);
  } else {
    ring_all_gather(wire, op.out, chunks);
  }
}

// A reduction over one rank, and whatever else needs no message.
void perform_alone(const Collective& op) {
  if (op.kind == Kind::barrier || op.in.is_same(op.out)) return;
  if (op.in.defined() && op.out.defined()) {
    copy(Elements(op.in)[{0, op.in.numel()}], Elements(op.out)[{0, op.out.numel()}]);
  }
}

void all_reduce(Wire& wire, const Collective& op) {
  const bool half = is_half(op.in.scalar_type());
  // The one that was asked for, or else the one for this size.
  const bool open = op.algorithm == Algorithm::automatic || op.algorithm == Algorithm::native;
  const Algorithm algorithm =
      open ? choose_reduction(op.in.nbytes(), half, wire.size, wire.tuning) : op.algorithm;
  if (algorithm == Algorithm::hierarchical) return hierarchical_all_reduce(wire, op.in, op.op);
  if (half) {
    return algorithm == Algorithm::doubling ? rank_order_short_all_reduce(wire, op.in, op.op)
                                            : rank_order_all_reduce(wire, op.in, op.op);
  }
  switch (algorithm) {
    case Algorithm::doubling:
      return doubling_all_reduce(wire, op.in, op.op);
    case Algorithm::halving:
      return halving_all_reduce(wire, op.in, op.op);
    default:
      return ring_all_reduce(wire, op.in, op.op);
  }
}

void perform_over_messages(Wire& wire, const Collective& op) {
  const std::size_t bytes = op.out.defined() ? op.out.nbytes() : 0;
  const bool ring = op.algorithm == Algorithm::ring;
  const bool small = !ring && bytes <= wire.tuning.direct_bytes;
  switch (op.kind) {
    case Kind::all_reduce:
      return all_reduce(wire, op);
    case Kind::reduce_scatter:
      if (is_half(op.in.scalar_type())) return rank_order_reduce_scatter(wire, op.in, op.out, op.op);
      return ring_reduce_scatter(wire, op.in, op.out, op.op);
    case Kind::all_gather:
    case Kind::all_gather_v:
      return gather(wire, op, small);
    case Kind::all_to_all: {
      const auto pieces = equal_chunks(op.in.numel(), wire.size);
      return pairwise_all_to_all(wire, op.in, pieces, op.out, pieces);
    }
    case Kind::all_to_all_v:
      return pairwise_all_to_all(wire, op.in, consecutive_chunks(op.in_counts), op.out,
                                 consecutive_chunks(op.out_counts));
    case Kind::send_receive:
      return exchange(wire, op);
    case Kind::broadcast: {
      const auto tree_bytes =
          std::max(wire.tuning.direct_bytes,
                   std::min<std::size_t>(2 * wire.tuning.segment_bytes, std::size_t{64} * 1024));
      return ring || bytes > tree_bytes ? chain_broadcast(wire, op.in, op.root)
                                        : tree_broadcast(wire, op.in, op.root);
    }
    case Kind::barrier:
      return dissemination_barrier(wire);
  }
}

}  // namespace

std::span<std::byte> Workspace::bytes(std::size_t n) {
  if (n > size_) {
    memory_.reset();  // before the new one is there: what was in it is not needed
    memory_ = std::make_unique_for_overwrite<std::byte[]>(n);
    size_ = n;
  }
  return {memory_.get(), size_};
}

void check(const Collective& op, int rank, int size) {
  for (const at::Tensor* x : {&op.in, &op.out}) {
    if (x->defined() && !x->device().is_cpu()) {
      refuse(op, "the tensor is on " + x->device().str() +
                     "; this context moves tensors in the host's memory only (for others: "
                     "InitOptions().device(\"cuda\"), --device cuda)");
    }
  }
  check_shape(op, rank, size);
}

void check_shape(const Collective& op, int rank, int size) {
  if (reduces(op.kind)) check_reducible(op.in.scalar_type(), op.op);
  check_sizes(op, rank, size);
  const bool in_place = op.kind == Kind::all_reduce || op.kind == Kind::broadcast;
  if (!in_place && op.in.defined() && op.out.defined() && overlap(op.in, op.out) &&
      !in_its_own_slot(op, rank, size)) {
    refuse(op, "input and output share memory");
  }
}

void perform(const Collective& op, Transport& transport, Workspace& workspace, const Tuning& tuning) {
  if (transport.size() == 1) return perform_alone(op);
  // The ways to all-reduce are none for the rest.
  const bool open = op.algorithm == Algorithm::automatic ||
                    (op.kind != Kind::all_reduce && op.algorithm > Algorithm::native);
  const bool wants_native = op.algorithm == Algorithm::native || (open && transport.prefers_native(op));
  if (wants_native && transport.native(op)) return;
  Wire wire{transport, workspace, tuning, tag_of(op)};
  perform_over_messages(wire, op);
}

int tag_of(const Collective& op) {
  std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a, a byte of each number at a time
  const auto mix = [&](std::int64_t value) {
    for (int shift = 0; shift < 64; shift += 8) {
      hash = (hash ^ ((static_cast<std::uint64_t>(value) >> shift) & 0xff)) * 0x100000001b3U;
    }
  };
  mix(static_cast<std::int64_t>(op.kind));
  const at::Tensor& x = op.in.defined() ? op.in : op.out;
  if (x.defined()) mix(static_cast<std::int64_t>(x.scalar_type()));
  // What one rank sends another of these may differ from what it receives; their lengths are compared
  // instead.
  if (op.kind != Kind::send_receive && op.kind != Kind::all_to_all_v) {
    if (op.out.defined()) mix(op.out.numel());
    mix(static_cast<std::int64_t>(op.op));
    mix(static_cast<std::int64_t>(op.algorithm));
    mix(op.root);
    for (const std::int64_t count : op.out_counts) mix(count);
  }
  hash ^= hash >> 32;
  return static_cast<int>((hash ^ (hash >> 15)) & 0x7fff);
}

}  // namespace acp
