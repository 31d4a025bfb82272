// All-reduce by recursive doubling: a logarithm of steps, each with the whole tensor; for short ones.
#include <cstring>

#include "comm/algorithms/reduce_kernels.h"
#include "comm/algorithms/wire.h"

namespace acp {

// Of a number of ranks that is no power of two, the first ranks fold in pairs before and unfold after. Sums
// are always made as (lower group) + (higher group), so that all ranks have the same bits, those of a NaN and
// of -0 included.
void doubling_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op) {
  const Elements elements(x);
  const std::int64_t numel = x.numel();
  const auto whole = elements[{0, numel}];
  const auto other = wire.workspace.bytes(whole.size()).first(whole.size());

  int power = 1;
  while (power * 2 <= wire.size) power *= 2;
  const int extra = wire.size - power;  // pairs that fold
  const bool folds = wire.rank < 2 * extra;

  if (folds && wire.rank % 2 == 1) {
    wire.wait(wire.send(wire.rank - 1, whole));
    wire.wait(wire.receive(wire.rank - 1, whole));
    return;
  }
  if (folds) {
    wire.wait(wire.receive(wire.rank + 1, other));
    reduce_into(whole.data(), other.data(), numel, elements.type, op);
  }
  const int position = folds ? wire.rank / 2 : wire.rank - extra;
  for (int distance = 1; distance < power; distance *= 2) {
    const int opposite = position ^ distance;
    const int peer = opposite < extra ? opposite * 2 : opposite + extra;
    const Ticket arrived = wire.receive(peer, other);
    const Ticket left = wire.send(peer, whole);
    wire.wait(arrived);
    wire.wait(left);
    if (position < opposite) {
      reduce_into(whole.data(), other.data(), numel, elements.type, op);
    } else {
      reduce_into(other.data(), whole.data(), numel, elements.type, op);
      copy(other, whole);
    }
  }
  if (op == ReduceOp::average) divide(whole.data(), numel, elements.type, wire.size);
  if (folds) wire.wait(wire.send(wire.rank + 1, whole));
}

}  // namespace acp
