// All-reduce on two levels: among the ranks of a host, then across hosts, then among the ranks of a host
// again.
#include <algorithm>
#include <vector>

#include "comm/algorithms/hosts.h"
#include "comm/algorithms/reduce_kernels.h"
#include "comm/algorithms/wire.h"

namespace acp {

namespace {

// Blocks by which the two steps across hosts run behind what they need: so much is under way on the link
// while a rank waits.
constexpr std::int64_t behind = 2;
constexpr std::size_t worth_a_message = std::size_t{32} * 1024, longest_message = std::size_t{128} * 1024,
                      pipelined = 8;

// The tensor in blocks, each in one shard for each column, each shard in one piece for each host. Rank
// `place` j < columns of a host owns shard j there; piece h of the shard is finished by the owner on host h.
// The blocks follow each other through the stages below, one stage for each turn (two across hosts), so that
// the links between hosts and the memory of each host work at the same time.
//
// Deadlock: what a rank waits for in a turn has been started by its peers in an earlier turn, or earlier in
// the same one; sends and receives of each pair are started in the same order on both sides.
class Hierarchy {
 public:
  Hierarchy(Wire& wire, const at::Tensor& x, ReduceOp op)
      : wire_(wire),
        op_(op),
        x_(x),
        half_(x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16),
        hosts_(group_hosts(wire.tuning.host_of, wire.rank, wire.size)),
        owner_(hosts_.place < hosts_.columns),
        numel_(x.numel()),
        blocks_(count_blocks()) {
    const std::int64_t shard = shard_of(0, 0).count;  // the longest of all
    const std::int64_t piece = part_of(0, 0, 0).count;
    partial_width_ = half_ ? sizeof(float) : x_.width;
    shard_bytes_ = static_cast<std::size_t>(shard) * x_.width;
    piece_bytes_ = static_cast<std::size_t>(piece) * partial_width_;
    sums_bytes_ = half_ ? static_cast<std::size_t>(shard) * sizeof(float) : 0;
    const std::size_t contributions = 2 * (hosts_.own().size() - 1) * shard_bytes_;
    const std::size_t partials = (behind + 1) * static_cast<std::size_t>(hosts_.count() - 1) * piece_bytes_;
    const std::size_t sums = (behind + 1) * sums_bytes_;
    if (owner_) memory_ = wire.workspace.bytes(sums + partials + contributions);
    sums_at_ = 0;
    partials_at_ = sums;
    contributions_at_ = sums + partials;
    const auto blocks = static_cast<std::size_t>(blocks_);
    for (auto* tickets : {&contributing_, &contributed_, &sending_partials_, &partials_, &sending_results_,
                          &results_, &spreading_, &spread_}) {
      tickets->resize(blocks);
    }
  }

  void run() {
    constexpr std::int64_t stages = 2 + 2 * behind;
    for (std::int64_t turn = 0; turn < blocks_ + stages; ++turn) {
      stage(turn, &Hierarchy::contribute);
      stage(turn - 1, &Hierarchy::add_host);
      stage(turn - 1 - behind, &Hierarchy::add_hosts);
      stage(turn - 1 - 2 * behind, &Hierarchy::spread);
    }
    for (std::int64_t b = 0; b < blocks_; ++b) {
      for (auto* tickets : {&contributing_, &sending_partials_, &sending_results_, &spreading_, &spread_}) {
        wait(*tickets, b);
      }
    }
  }

 private:
  using Tickets = std::vector<std::vector<Ticket>>;  // by block

  void stage(std::int64_t block, void (Hierarchy::*work)(std::int64_t)) {
    if (block >= 0 && block < blocks_) (this->*work)(block);
  }

  std::int64_t count_blocks() const {
    const auto cuts = static_cast<std::size_t>(hosts_.columns) * static_cast<std::size_t>(hosts_.count());
    const std::size_t piece = static_cast<std::size_t>(numel_) * x_.width / cuts;
    const std::size_t most = std::min(longest_message, wire_.tuning.segment_bytes);
    const std::size_t length = std::clamp(piece / pipelined, std::min(worth_a_message, most), most);
    return static_cast<std::int64_t>(std::max<std::size_t>(1, piece / std::max<std::size_t>(1, length)));
  }

  Range shard_of(std::int64_t block, int column) const {
    return segment_of(segment_of({0, numel_}, block, blocks_), column, hosts_.columns);
  }
  Range part_of(std::int64_t block, int column, int host) const {
    return segment_of(shard_of(block, column), host, hosts_.count());
  }
  // Of what is empty one empty message travels, so that ranks which move nothing notice a difference.
  static bool travels(Range range, std::int64_t block) { return range.count > 0 || block == 0; }

  void send(Tickets& tickets, std::int64_t block, int peer, std::span<const std::byte> data) {
    tickets[static_cast<std::size_t>(block)].push_back(wire_.send(peer, data));
  }
  void receive(Tickets& tickets, std::int64_t block, int peer, std::span<std::byte> data) {
    tickets[static_cast<std::size_t>(block)].push_back(wire_.receive(peer, data));
  }
  void wait(Tickets& tickets, std::int64_t block) {
    auto& list = tickets[static_cast<std::size_t>(block)];
    wire_.wait_all(list);
    list.clear();
  }

  // Calls body(rank, index) for the other ranks of this host, or the other owners of this column.
  template <class Body>
  void for_neighbours(int owners, Body body) const {
    for (int place = 0; place < owners; ++place) {
      if (place != hosts_.place) body(hosts_.own()[static_cast<std::size_t>(place)], place);
    }
  }
  template <class Body>
  void for_hosts(Body body) const {
    for (int host = 0; host < hosts_.count(); ++host) {
      if (host != hosts_.host) {
        body(hosts_.ranks[static_cast<std::size_t>(host)][static_cast<std::size_t>(hosts_.place)], host);
      }
    }
  }

  std::byte* slot(std::size_t at, std::size_t bytes, std::int64_t block, std::int64_t depth,
                  std::size_t others, int index, int self) const {
    const auto i = static_cast<std::size_t>(index < self ? index : index - 1);
    return memory_.data() + at + (static_cast<std::size_t>(block % depth) * others + i) * bytes;
  }
  std::byte* contribution(std::int64_t block, int place) const {
    return slot(contributions_at_, shard_bytes_, block, 2, hosts_.own().size() - 1, place, hosts_.place);
  }
  std::byte* partial(std::int64_t block, int host) const {
    return slot(partials_at_, piece_bytes_, block, behind + 1, hosts_.ranks.size() - 1, host, hosts_.host);
  }
  // Half precision is added in float32 until it is complete: this rank's shard of the block.
  float* sums(std::int64_t block) const {
    return reinterpret_cast<float*>(memory_.data() + sums_at_ +
                                    static_cast<std::size_t>(block % (behind + 1)) * sums_bytes_);
  }
  // Part `range` of this rank's shard of the block, as it stands before the hosts' sums are added.
  std::byte* own_partial(std::int64_t block, Range range) const {
    if (!half_) return x_.at(range.begin);
    return reinterpret_cast<std::byte*>(sums(block) + (range.begin - shard_of(block, hosts_.place).begin));
  }

  // This rank's numbers go to the owners of their shards on this host.
  void contribute(std::int64_t block) {
    for_neighbours(hosts_.columns, [&](int peer, int column) {
      const Range shard = shard_of(block, column);
      if (travels(shard, block)) send(contributing_, block, peer, x_[shard]);
    });
    if (!owner_) return;
    const Range shard = shard_of(block, hosts_.place);
    if (!travels(shard, block)) return;
    for_neighbours(static_cast<int>(hosts_.own().size()), [&](int peer, int place) {
      receive(contributed_, block, peer, {contribution(block, place), x_[shard].size()});
    });
  }

  // The host's sum of the shard, whose pieces go to the owners on the other hosts.
  void add_host(std::int64_t block) {
    if (!owner_) return;
    wait(contributed_, block);
    const Range shard = shard_of(block, hosts_.place);
    if (half_) widen(sums(block), x_.at(shard.begin), shard.count, x_.type);
    for_neighbours(static_cast<int>(hosts_.own().size()), [&](int, int place) {
      const std::byte* const theirs = contribution(block, place);
      if (half_) {
        reduce_widened(sums(block), theirs, shard.count, x_.type, op_);
      } else {
        reduce_into(x_.at(shard.begin), theirs, shard.count, x_.type, op_);
      }
    });
    for_hosts([&](int peer, int host) {
      const Range theirs = part_of(block, hosts_.place, host),
                  mine = part_of(block, hosts_.place, hosts_.host);
      const auto bytes = [&](Range r) { return static_cast<std::size_t>(r.count) * partial_width_; };
      if (travels(theirs, block))
        send(sending_partials_, block, peer, {own_partial(block, theirs), bytes(theirs)});
      if (travels(mine, block)) receive(partials_, block, peer, {partial(block, host), bytes(mine)});
    });
  }

  // This rank's piece of all hosts' sums, complete; it goes to the owners on the other hosts.
  void add_hosts(std::int64_t block) {
    if (!owner_) return;
    wait(partials_, block);
    const Range piece = part_of(block, hosts_.place, hosts_.host);
    std::byte* const mine = own_partial(block, piece);
    const at::ScalarType type = half_ ? at::kFloat : x_.type;
    for_hosts([&](int, int host) { reduce_into(mine, partial(block, host), piece.count, type, op_); });
    if (op_ == ReduceOp::average) divide(mine, piece.count, type, wire_.size);
    if (half_) narrow(x_.at(piece.begin), reinterpret_cast<const float*>(mine), piece.count, x_.type);
    wait(sending_partials_, block);  // the results land where they were
    for_hosts([&](int peer, int host) {
      const Range theirs = part_of(block, hosts_.place, host);
      if (travels(piece, block)) send(sending_results_, block, peer, x_[piece]);
      if (travels(theirs, block)) receive(results_, block, peer, x_[theirs]);
    });
  }

  // Complete shards go to the other ranks of the host.
  void spread(std::int64_t block) {
    if (owner_) {
      wait(results_, block);
      const Range shard = shard_of(block, hosts_.place);
      if (travels(shard, block)) {
        for_neighbours(static_cast<int>(hosts_.own().size()),
                       [&](int peer, int) { send(spreading_, block, peer, x_[shard]); });
      }
    }
    wait(contributing_, block);  // the results land where they were
    for_neighbours(hosts_.columns, [&](int peer, int column) {
      const Range shard = shard_of(block, column);
      if (travels(shard, block)) receive(spread_, block, peer, x_[shard]);
    });
  }

  Wire& wire_;
  const ReduceOp op_;
  const Elements x_;
  const bool half_;
  const Hosts hosts_;
  const bool owner_;
  const std::int64_t numel_, blocks_;
  std::size_t partial_width_ = 0, shard_bytes_ = 0, piece_bytes_ = 0, sums_bytes_ = 0;
  std::size_t sums_at_ = 0, partials_at_ = 0, contributions_at_ = 0;
  std::span<std::byte> memory_;
  Tickets contributing_, contributed_, sending_partials_, partials_, sending_results_, results_, spreading_,
      spread_;
};

}  // namespace

void hierarchical_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op) {
  Hierarchy(wire, x, op).run();
}

}  // namespace acp
