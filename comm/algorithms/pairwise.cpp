// Every pair of ranks exchanges one message: all-to-all, short gathers, send_receive.
#include <algorithm>
#include <cstring>

#include "comm/algorithms/wire.h"

namespace acp {

void copy(std::span<const std::byte> from, std::span<std::byte> to) {
  if (!from.empty() && from.data() != to.data()) std::memmove(to.data(), from.data(), from.size());
}

void direct_all_gather(Wire& wire, const at::Tensor& all, const std::vector<Range>& chunks) {
  const Elements elements(all);
  std::vector<Ticket> tickets;
  for (int d = 1; d < wire.size; ++d) {
    const int peer = wire.neighbour(-d);
    tickets.push_back(wire.receive(peer, elements[chunks[static_cast<std::size_t>(peer)]]));
  }
  for (int d = 1; d < wire.size; ++d) {
    tickets.push_back(wire.send(wire.neighbour(d), elements[chunks[static_cast<std::size_t>(wire.rank)]]));
  }
  wire.wait_all(tickets);
}

void pairwise_all_to_all(Wire& wire, const at::Tensor& in, const std::vector<Range>& to,
                         const at::Tensor& out, const std::vector<Range>& from) {
  const Elements mine(in), theirs(out);
  const auto self = static_cast<std::size_t>(wire.rank);
  std::vector<Ticket> tickets;
  for (int d = 1; d < wire.size; ++d) {
    const int peer = wire.neighbour(-d);
    tickets.push_back(wire.receive(peer, theirs[from[static_cast<std::size_t>(peer)]]));
  }
  for (int d = 1; d < wire.size; ++d) {
    const int peer = wire.neighbour(d);
    tickets.push_back(wire.send(peer, mine[to[static_cast<std::size_t>(peer)]]));
  }
  copy(mine[to[self]], theirs[from[self]]);
  wire.wait_all(tickets);
}

void exchange(Wire& wire, const Collective& op) {
  if (op.send_to == wire.rank) {  // and receives from itself: checked
    copy(Elements(op.in)[{0, op.in.numel()}], Elements(op.out)[{0, op.out.numel()}]);
    return;
  }
  const Ticket arrived =
      op.receive_from >= 0 ? wire.receive(op.receive_from, Elements(op.out)[{0, op.out.numel()}]) : 0;
  const Ticket left = op.send_to >= 0 ? wire.send(op.send_to, Elements(op.in)[{0, op.in.numel()}]) : 0;
  wire.wait(arrived);
  wire.wait(left);
}

}  // namespace acp
