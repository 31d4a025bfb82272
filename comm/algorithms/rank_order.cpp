// Reductions of half precision: pieces are exchanged, added in float32 in rank order, rounded once, and
// gathered.
#include <algorithm>

#include "comm/algorithms/reduce_kernels.h"
#include "comm/algorithms/wire.h"

namespace acp {

namespace {

// Reduces this rank's chunk of `in` over all ranks and calls done(segment within the chunk, float results)
// for each segment in turn. All of this rank's other chunks have been handed to `sends` when it returns, not
// waited for.
template <class Done>
void reduce_own_chunk(Wire& wire, const Elements& in, const std::vector<Range>& chunks, std::int64_t segments,
                      ReduceOp op, std::vector<Ticket>& sends, Done done) {
  const Range own = chunks[static_cast<std::size_t>(wire.rank)];
  const auto ranks = static_cast<std::size_t>(wire.size);
  const auto longest = static_cast<std::size_t>(segment_of(own, 0, segments).count);
  // The sums, then two sets of a segment from each rank: one is added while the other arrives.
  const auto memory = wire.workspace.bytes(longest * sizeof(float) + 2 * ranks * longest * in.width);
  auto* const sums = reinterpret_cast<float*>(memory.data());
  const auto slot = [&](std::int64_t k, int peer) {
    const std::size_t index = static_cast<std::size_t>(k % 2) * ranks + static_cast<std::size_t>(peer);
    return memory.data() + longest * sizeof(float) + index * longest * in.width;
  };
  std::vector<Ticket> arriving(2 * ranks, 0);
  const auto arrival = [&](std::int64_t k, int peer) -> Ticket& {
    return arriving[static_cast<std::size_t>(k % 2) * ranks + static_cast<std::size_t>(peer)];
  };
  const auto travels = [](Range range, std::int64_t k) { return range.count > 0 || k == 0; };
  const auto post = [&](std::int64_t k) {
    const Range range = segment_of(own, k, segments);
    for (int d = 1; d < wire.size; ++d) {
      const int peer = wire.neighbour(-d);
      arrival(k, peer) =
          travels(range, k)
              ? wire.receive(peer, {slot(k, peer), static_cast<std::size_t>(range.count) * in.width})
              : 0;
    }
  };

  post(0);
  for (std::int64_t k = 0; k < segments; ++k) {
    for (int d = 1; d < wire.size; ++d) {
      const int peer = wire.neighbour(d);
      const Range range = segment_of(chunks[static_cast<std::size_t>(peer)], k, segments);
      if (travels(range, k)) sends.push_back(wire.send(peer, in[range]));
    }
  }
  for (std::int64_t k = 0; k < segments; ++k) {
    if (k + 1 < segments) post(k + 1);
    const Range range = segment_of(own, k, segments);
    for (int r = 0; r < wire.size; ++r) {
      if (r != wire.rank) wire.wait(arrival(k, r));
      const std::byte* piece = r == wire.rank ? in.at(range.begin) : slot(k, r);
      if (r == 0) {
        widen(sums, piece, range.count, in.type);
      } else {
        reduce_widened(sums, piece, range.count, in.type, op);
      }
    }
    if (op == ReduceOp::average) {
      divide(reinterpret_cast<std::byte*>(sums), range.count, at::kFloat, wire.size);
    }
    done(k, sums);
  }
}

}  // namespace

void rank_order_short_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op) {
  const Elements elements(x);
  const std::int64_t numel = x.numel();
  const auto whole = elements[{0, numel}];
  const auto ranks = static_cast<std::size_t>(wire.size);
  const std::size_t sums_bytes = static_cast<std::size_t>(numel) * sizeof(float);
  const auto memory = wire.workspace.bytes(sums_bytes + ranks * whole.size());
  auto* const sums = reinterpret_cast<float*>(memory.data());
  const auto slot = [&](int rank) {
    return memory.subspan(sums_bytes + static_cast<std::size_t>(rank) * whole.size(), whole.size());
  };
  std::vector<Ticket> tickets;
  for (int d = 1; d < wire.size; ++d) {
    const int peer = wire.neighbour(-d);
    tickets.push_back(wire.receive(peer, slot(peer)));
  }
  for (int d = 1; d < wire.size; ++d) tickets.push_back(wire.send(wire.neighbour(d), whole));
  wire.wait_all(tickets);
  for (int r = 0; r < wire.size; ++r) {
    const std::byte* const piece = r == wire.rank ? whole.data() : slot(r).data();
    if (r == 0) {
      widen(sums, piece, numel, elements.type);
    } else {
      reduce_widened(sums, piece, numel, elements.type, op);
    }
  }
  if (op == ReduceOp::average) divide(reinterpret_cast<std::byte*>(sums), numel, at::kFloat, wire.size);
  narrow(whole.data(), sums, numel, elements.type);
}

void rank_order_reduce_scatter(Wire& wire, const at::Tensor& x, const at::Tensor& mine, ReduceOp op) {
  const Elements in(x), out(mine);
  const auto chunks = equal_chunks(x.numel(), wire.size);
  const auto segments = pipelined_segments(wire, chunks, in.width);
  std::vector<Ticket> sends;
  reduce_own_chunk(wire, in, chunks, segments, op, sends, [&](std::int64_t k, const float* sums) {
    const Range range = segment_of({0, mine.numel()}, k, segments);
    narrow(out.at(range.begin), sums, range.count, out.type);
  });
  wire.wait_all(sends);
}

void rank_order_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op) {
  const Elements elements(x);
  const auto chunks = equal_chunks(x.numel(), wire.size);
  const auto segments = pipelined_segments(wire, chunks, elements.width);
  const Range own = chunks[static_cast<std::size_t>(wire.rank)];
  const auto travels = [](Range range, std::int64_t k) { return range.count > 0 || k == 0; };

  std::vector<Ticket> contributions, results;
  reduce_own_chunk(wire, elements, chunks, segments, op, contributions,
                   [&](std::int64_t k, const float* sums) {
                     const Range range = segment_of(own, k, segments);
                     narrow(elements.at(range.begin), sums, range.count, elements.type);
                     if (!travels(range, k)) return;
                     for (int d = 1; d < wire.size; ++d)
                       results.push_back(wire.send(wire.neighbour(d), elements[range]));
                   });
  wire.wait_all(contributions);  // the results land where the contributions were
  for (std::int64_t k = 0; k < segments; ++k) {
    for (int d = 1; d < wire.size; ++d) {
      const int peer = wire.neighbour(-d);
      const Range range = segment_of(chunks[static_cast<std::size_t>(peer)], k, segments);
      if (travels(range, k)) results.push_back(wire.receive(peer, elements[range]));
    }
  }
  wire.wait_all(results);
}

}  // namespace acp
