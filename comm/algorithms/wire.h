// What the algorithms share: the transport with this operation's tag, and pieces of tensors as ranges of
// bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "comm/algorithms/algorithms.h"
#include "comm/algorithms/ring_plan.h"
#include "comm/collective.h"
#include "comm/transport.h"

namespace acp {

// One operation's view of its channel. Lives on the wire thread's stack.
struct Wire {
  Transport& transport;
  Workspace& workspace;
  const Tuning& tuning;
  const int tag;
  const int rank = transport.rank();
  const int size = transport.size();

  // The rank that is `distance` places further round the ring (negative: back).
  int neighbour(int distance) const { return ((rank + distance) % size + size) % size; }
  Ticket send(int peer, std::span<const std::byte> data) { return transport.send(peer, data, tag); }
  Ticket receive(int peer, std::span<std::byte> data) { return transport.receive(peer, data, tag); }
  void wait(Ticket ticket) {
    if (ticket != 0) transport.wait(ticket);
  }
  void wait_all(const std::vector<Ticket>& tickets) {
    for (const Ticket ticket : tickets) wait(ticket);
  }
};

// A tensor's memory, and the part of it that a range of elements covers.
struct Elements {
  std::byte* data = nullptr;
  std::size_t width = 1;  // bytes of one element
  at::ScalarType type = at::kByte;

  explicit Elements(const at::Tensor& x)
      : data(static_cast<std::byte*>(x.data_ptr())), width(x.element_size()), type(x.scalar_type()) {}

  std::byte* at(std::int64_t element) const { return data + static_cast<std::size_t>(element) * width; }
  std::span<std::byte> operator[](Range range) const {
    return {at(range.begin), static_cast<std::size_t>(range.count) * width};
  }
};

// Segments per chunk: four, so that a rank passes on what has arrived while more arrives, more where
// Tuning::segment_bytes asks for it, fewer where they would be shorter than is worth a message.
std::int64_t pipelined_segments(const Wire& wire, const std::vector<Range>& chunks, std::size_t width);

// Copies unless both are the same memory already.
void copy(std::span<const std::byte> from, std::span<std::byte> to);

// ring.cpp: chunks travel round the ring in segments. `out` holds this rank's chunk already when gathering.
void ring_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op);
void ring_reduce_scatter(Wire& wire, const at::Tensor& x, const at::Tensor& mine, ReduceOp op);
void ring_all_gather(Wire& wire, const at::Tensor& all, const std::vector<Range>& chunks);

// fold.cpp: of a number of ranks that is no power of two, the first ranks fold in pairs before (the odd one
// hands its tensor to the even one), and unfold after (it gets the result).
struct Fold {
  Fold(int rank, int size);
  int rank_of(int place) const { return place < extra ? place * 2 : place + extra; }

  int power = 1;     // ranks that take part
  int extra = 0;     // pairs that fold
  int partner = -1;  // the other rank of this one's pair, if it is in one
  int position = 0;  // of this rank among those that take part
  bool out = false;  // this rank hands over, and takes no part
};
void fold_out(Wire& wire, std::span<std::byte> whole);
void fold_in(Wire& wire, const Fold& fold, const Elements& x, std::int64_t numel, std::span<std::byte> other,
             ReduceOp op);
void unfold(Wire& wire, const Fold& fold, std::span<const std::byte> whole);

// doubling.cpp: every rank's whole tensor in a logarithm of steps, for short ones.
void doubling_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op);

// halving.cpp: halves of it, quarters, ..., in twice a logarithm of steps, for those in between.
void halving_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op);

// hierarchy.cpp: among the ranks of each host (Tuning::host_of), then across hosts. Half precision is added
// in float32 and rounded once, host by host, so not quite in rank order.
void hierarchical_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op);

// rank_order.cpp: for half precision. Pieces are exchanged, added in float32 in rank order and rounded once.
void rank_order_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op);
// Everybody's whole tensor, for short ones; the same bits.
void rank_order_short_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op);
void rank_order_reduce_scatter(Wire& wire, const at::Tensor& x, const at::Tensor& mine, ReduceOp op);

// pairwise.cpp: every pair of ranks exchanges one message.
void direct_all_gather(Wire& wire, const at::Tensor& all, const std::vector<Range>& chunks);
void pairwise_all_to_all(Wire& wire, const at::Tensor& in, const std::vector<Range>& to,
                         const at::Tensor& out, const std::vector<Range>& from);
void exchange(Wire& wire, const Collective& op);  // send_receive

// spread.cpp: from one rank to all, and all waiting for all.
void tree_broadcast(Wire& wire, const at::Tensor& x, int root);
void chain_broadcast(Wire& wire, const at::Tensor& x, int root);
void dissemination_barrier(Wire& wire);

}  // namespace acp
