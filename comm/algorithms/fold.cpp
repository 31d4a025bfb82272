// The pairs that fold when the number of ranks is no power of two.
#include "comm/algorithms/reduce_kernels.h"
#include "comm/algorithms/wire.h"

namespace acp {

Fold::Fold(int rank, int size) {
  while (power * 2 <= size) power *= 2;
  extra = size - power;
  const bool folds = rank < 2 * extra;
  out = folds && rank % 2 == 1;
  partner = folds ? rank ^ 1 : -1;
  position = folds ? rank / 2 : rank - extra;
}

void fold_out(Wire& wire, std::span<std::byte> whole) {
  wire.wait(wire.send(wire.rank - 1, whole));
  wire.wait(wire.receive(wire.rank - 1, whole));
}

void fold_in(Wire& wire, const Fold& fold, const Elements& x, std::int64_t numel, std::span<std::byte> other,
             ReduceOp op) {
  if (fold.partner < 0) return;
  wire.wait(wire.receive(fold.partner, other.first(static_cast<std::size_t>(numel) * x.width)));
  reduce_into(x.at(0), other.data(), numel, x.type, op);
}

void unfold(Wire& wire, const Fold& fold, std::span<const std::byte> whole) {
  if (fold.partner >= 0) wire.wait(wire.send(fold.partner, whole));
}

}  // namespace acp
