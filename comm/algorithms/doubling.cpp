// All-reduce by recursive doubling: a logarithm of steps, each with the whole tensor; for short ones.
#include <cstring>

#include "comm/algorithms/reduce_kernels.h"
#include "comm/algorithms/wire.h"

namespace acp {

// Sums are always made as (lower group) + (higher group), so that all ranks have the same bits, those of a
// NaN and of -0 included.
void doubling_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op) {
  const Elements elements(x);
  const std::int64_t numel = x.numel();
  const auto whole = elements[{0, numel}];
  const Fold fold(wire.rank, wire.size);
  if (fold.out) return fold_out(wire, whole);
  const auto other = wire.workspace.bytes(whole.size()).first(whole.size());
  fold_in(wire, fold, elements, numel, other, op);
  for (int distance = 1; distance < fold.power; distance *= 2) {
    const int opposite = fold.position ^ distance;
    const int peer = fold.rank_of(opposite);
    const Ticket arrived = wire.receive(peer, other);
    const Ticket left = wire.send(peer, whole);
    wire.wait(arrived);
    wire.wait(left);
    if (fold.position < opposite) {
      reduce_into(whole.data(), other.data(), numel, elements.type, op);
    } else {
      reduce_into(other.data(), whole.data(), numel, elements.type, op);
      copy(other, whole);
    }
  }
  if (op == ReduceOp::average) divide(whole.data(), numel, elements.type, wire.size);
  unfold(wire, fold, whole);
}

}  // namespace acp
