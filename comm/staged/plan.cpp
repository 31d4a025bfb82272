// How each kind of collective is cut into rounds.
#include "comm/staged/plan.h"

#include <algorithm>
#include <utility>

namespace acp {

namespace {

using Kind = Collective::Kind;
using Counts = std::vector<std::int64_t>;

// What of `count` elements lies between `begin` and `begin + step`.
std::int64_t part(std::int64_t count, std::int64_t begin, std::int64_t step) {
  return std::clamp<std::int64_t>(count - begin, 0, step);
}

Counts parts(const Counts& counts, std::int64_t begin, std::int64_t step) {
  Counts result;
  for (const std::int64_t count : counts) result.push_back(part(count, begin, step));
  return result;
}

std::int64_t sum(const Counts& counts) {
  std::int64_t total = 0;
  for (const std::int64_t count : counts) total += count;
  return total;
}

std::int64_t largest(const Counts& counts) {
  return counts.empty() ? 0 : *std::ranges::max_element(counts);
}

// The round's part of every rank's piece, packed on the host one behind the other.
std::vector<StagePiece> pieces(const Counts& counts, std::int64_t begin, const Counts& taken) {
  std::vector<StagePiece> result;
  std::int64_t device = 0, host = 0;
  for (std::size_t r = 0; r < counts.size(); ++r) {
    if (taken[r] > 0) result.push_back({device + begin, host, taken[r]});
    device += counts[r];
    host += taken[r];
  }
  return result;
}

std::vector<StagePiece> one(std::int64_t begin, std::int64_t count) {
  if (count == 0) return {};
  return {{begin, 0, count}};
}

Counts equal(std::int64_t piece, int size) {
  return Counts(static_cast<std::size_t>(size), piece);
}

std::int64_t elements_of(const at::Tensor& x) {
  return x.defined() ? x.numel() : 0;
}

}  // namespace

StagePlan::StagePlan(const Collective& op, int rank, int size, std::int64_t elements)
    : kind_(op.kind),
      rank_(rank),
      size_(size),
      root_(op.root),
      send_to_(op.send_to),
      receive_from_(op.receive_from),
      in_(elements_of(op.in)),
      out_(elements_of(op.out)),
      in_counts_(op.in_counts),
      out_counts_(op.out_counts) {
  std::int64_t longest = 0;
  bool by_rank = true;  // a round takes a piece for, or from, every rank
  switch (kind_) {
    case Kind::reduce_scatter:
      longest = out_;
      in_counts_ = equal(out_, size);
      break;
    case Kind::all_gather:
      longest = in_;
      out_counts_ = equal(in_, size);
      break;
    case Kind::all_gather_v:
      longest = largest(out_counts_);
      break;
    case Kind::all_to_all:
      longest = in_ / size;
      in_counts_ = out_counts_ = equal(longest, size);
      break;
    case Kind::all_to_all_v:
      longest = std::max(largest(in_counts_), largest(out_counts_));
      break;
    default:
      longest = std::max(in_, out_);
      by_rank = false;
  }
  step_ = std::max<std::int64_t>(1, by_rank ? elements / size : elements);
  rounds_ = std::max<std::int64_t>(1, (longest + step_ - 1) / step_);
}

StageRound StagePlan::round(std::int64_t index) const {
  const std::int64_t begin = index * step_;
  const auto all_in = parts(in_counts_, begin, step_), all_out = parts(out_counts_, begin, step_);
  StageRound round;
  round.in = part(in_, begin, step_);
  round.out = part(out_, begin, step_);
  round.down = one(begin, round.in);
  round.up = one(begin, round.out);
  switch (kind_) {
    case Kind::broadcast:
      (rank_ == root_ ? round.up : round.down).clear();
      break;
    case Kind::reduce_scatter:
      round.in = sum(all_in);
      round.down = pieces(in_counts_, begin, all_in);
      break;
    case Kind::all_gather:
    case Kind::all_gather_v:
      round.out = sum(all_out);
      round.up = pieces(out_counts_, begin, all_out);
      break;
    case Kind::all_to_all:
    case Kind::all_to_all_v:
      round.in = sum(all_in);
      round.out = sum(all_out);
      round.down = pieces(in_counts_, begin, all_in);
      round.up = pieces(out_counts_, begin, all_out);
      break;
    case Kind::send_receive:
      round.sends = send_to_ >= 0 && (index == 0 || round.in > 0);
      round.receives = receive_from_ >= 0 && (index == 0 || round.out > 0);
      break;
    default:
      break;
  }
  if (kind_ == Kind::all_gather_v || kind_ == Kind::all_to_all_v) round.out_counts = all_out;
  if (kind_ == Kind::all_to_all_v) round.in_counts = all_in;
  return round;
}

Collective stage_collective(const Collective& op, const StageRound& round, at::Tensor in, at::Tensor out) {
  const auto make = [&] {
    switch (op.kind) {
      case Kind::all_reduce:
        return Collective::all_reduce(std::move(in), op.op);
      case Kind::reduce_scatter:
        return Collective::reduce_scatter(std::move(in), std::move(out), op.op);
      case Kind::all_gather:
        return Collective::all_gather(std::move(in), std::move(out));
      case Kind::all_gather_v:
        return Collective::all_gather_v(std::move(in), std::move(out), round.out_counts);
      case Kind::all_to_all:
        return Collective::all_to_all(std::move(in), std::move(out));
      case Kind::all_to_all_v:
        return Collective::all_to_all_v(std::move(in), round.in_counts, std::move(out), round.out_counts);
      case Kind::send_receive:
        return Collective::send_receive(round.sends ? op.send_to : -1, std::move(in),
                                        round.receives ? op.receive_from : -1, std::move(out));
      case Kind::broadcast:
        return Collective::broadcast(std::move(in), op.root);
      case Kind::barrier:
        break;
    }
    return Collective::barrier();
  };
  Collective made = make();
  made.algorithm = op.algorithm;
  made.label = op.label;
  return made;
}

}  // namespace acp
