// From one rank to all (a tree for short messages, a pipelined chain for long ones), and the barrier.
#include <algorithm>

#include "comm/algorithms/wire.h"

namespace acp {

// Places are counted from the root: place p receives from p without its lowest set bit.
void tree_broadcast(Wire& wire, const at::Tensor& x, int root) {
  const auto whole = Elements(x)[{0, x.numel()}];
  const int place = (wire.rank - root + wire.size) % wire.size;
  int bit = 1;
  while (bit < wire.size && (place & bit) == 0) bit *= 2;
  if (place != 0) wire.wait(wire.receive(wire.neighbour(-bit), whole));
  std::vector<Ticket> sends;
  for (bit /= 2; bit > 0; bit /= 2) {
    if (place + bit < wire.size) sends.push_back(wire.send(wire.neighbour(bit), whole));
  }
  wire.wait_all(sends);
}

void chain_broadcast(Wire& wire, const at::Tensor& x, int root) {
  const Elements elements(x);
  const std::vector<Range> whole{{0, x.numel()}};
  // The last rank of the chain waits for n - 2 of them before its first.
  const auto segments =
      segments_per_chunk(whole, elements.width, std::min<std::size_t>(wire.tuning.segment_bytes, 32 * 1024));
  const int place = (wire.rank - root + wire.size) % wire.size;
  const bool first = place == 0, last = place == wire.size - 1;
  std::vector<Ticket> receives, sends;
  for (std::int64_t k = 0; k < segments && !first; ++k) {
    receives.push_back(wire.receive(wire.neighbour(-1), elements[segment_of(whole[0], k, segments)]));
  }
  for (std::int64_t k = 0; k < segments; ++k) {
    if (!first) wire.wait(receives[static_cast<std::size_t>(k)]);
    if (!last) sends.push_back(wire.send(wire.neighbour(1), elements[segment_of(whole[0], k, segments)]));
  }
  wire.wait_all(sends);
}

// After round k every rank has heard, directly or not, of the 2^(k+1) - 1 ranks before it.
void dissemination_barrier(Wire& wire) {
  for (int distance = 1; distance < wire.size; distance *= 2) {
    const Ticket arrived = wire.receive(wire.neighbour(-distance), {});
    const Ticket left = wire.send(wire.neighbour(distance), {});
    wire.wait(arrived);
    wire.wait(left);
  }
}

}  // namespace acp
