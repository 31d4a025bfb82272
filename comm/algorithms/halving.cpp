// All-reduce by recursive halving and doubling (Rabenseifner): few messages, and a ring's bytes.
#include <algorithm>
#include <vector>

#include "comm/algorithms/reduce_kernels.h"
#include "comm/algorithms/wire.h"

namespace acp {

// The ranks that take part (Fold) hold a window of the tensor, at first the whole. They halve it with
// partners at distances power / 2, ..., 1, each adding up the half that it keeps, and gather the other way
// round. Every element is finished by one rank, so all have the same bits.
void halving_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op) {
  const Elements elements(x);
  const Fold fold(wire.rank, wire.size);
  const auto whole = elements[{0, x.numel()}];
  if (fold.out) return fold_out(wire, whole);
  const auto other = wire.workspace.bytes(whole.size());
  fold_in(wire, fold, elements, x.numel(), other, op);

  const auto chunks = equal_chunks(x.numel(), fold.power);
  const auto window = [&](int first, int count) {
    const Range& last = chunks[static_cast<std::size_t>(first + count - 1)];
    const std::int64_t begin = chunks[static_cast<std::size_t>(first)].begin;
    return Range{begin, last.begin + last.count - begin};
  };
  for (int distance = fold.power / 2; distance > 0; distance /= 2) {
    const int peer = fold.rank_of(fold.position ^ distance);
    const int mine = fold.position & ~(distance - 1), theirs = mine ^ distance;
    const Range kept = window(mine, distance), given = window(theirs, distance);
    const Ticket arrived = wire.receive(peer, other.first(elements[kept].size()));
    const Ticket left = wire.send(peer, elements[given]);
    wire.wait(arrived);
    reduce_into(elements.at(kept.begin), other.data(), kept.count, elements.type, op);
    wire.wait(left);
  }
  if (op == ReduceOp::average) {
    const Range own = chunks[static_cast<std::size_t>(fold.position)];
    divide(elements.at(own.begin), own.count, elements.type, wire.size);
  }
  for (int distance = 1; distance < fold.power; distance *= 2) {
    const int peer = fold.rank_of(fold.position ^ distance);
    const int mine = fold.position & ~(distance - 1), theirs = mine ^ distance;
    const Ticket arrived = wire.receive(peer, elements[window(theirs, distance)]);
    const Ticket left = wire.send(peer, elements[window(mine, distance)]);
    wire.wait(arrived);
    wire.wait(left);
  }
  unfold(wire, fold, whole);
}

}  // namespace acp
