// See trial.h.
#include "benchmarks/acp-comm/trial.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "comm/streams.h"

namespace acp::programs {

namespace {

using Kind = Collective::Kind;

// A prime, so that no chunk of any usual size starts with the same numbers as its neighbour.
constexpr std::int64_t period = 1009;

// Sums of this magnitude are exact in bfloat16 (8 bits), and a uint8 holds them.
constexpr std::int64_t largest_sum = 255;

bool pieces(Kind kind) {
  return kind != Kind::all_reduce && kind != Kind::broadcast;
}

// Elements begin .. begin + count of the periodic numbers of `table`, in memory of their own.
at::Tensor repeated(const std::vector<std::int64_t>& table, std::int64_t begin, std::int64_t count,
                    at::ScalarType type) {
  const auto first = begin % period;
  const auto once = at::tensor(table, at::kLong).to(type);
  return once.repeat({(first + count) / period + 1}).narrow(0, first, count).clone();
}

}  // namespace

bool has_in_place(Kind kind) {
  return kind != Kind::reduce_scatter && kind != Kind::all_to_all;
}

double bus_factor(Kind kind, int ranks) {
  if (kind == Kind::broadcast) return 1;
  const double share = static_cast<double>(ranks - 1) / ranks;
  return kind == Kind::all_reduce ? 2 * share : share;
}

Trial::Trial(const TrialSpec& spec, int rank, int ranks) : spec_(spec), rank_(rank), ranks_(ranks) {
  const auto options = at::TensorOptions().dtype(spec.type).device(spec.device);
  const auto elements = spec.bytes / static_cast<std::int64_t>(c10::elementSize(spec.type));
  piece_ = std::max<std::int64_t>(1, pieces(spec.kind) ? elements / ranks : elements);
  const auto all = pieces(spec.kind) ? piece_ * ranks : piece_;
  out_ = at::zeros({spec.kind == Kind::reduce_scatter ? piece_ : all}, options);
  if (spec.in_place && has_in_place(spec.kind)) {
    in_ = spec.kind == Kind::all_gather ? out_.narrow(0, piece_ * rank, piece_) : out_;
  } else {
    in_ = at::zeros({spec.kind == Kind::all_gather ? piece_ : all}, options);
  }
}

std::int64_t Trial::bytes() const {
  return static_cast<std::int64_t>(std::max(in_.nbytes(), out_.nbytes()));
}

void Trial::reset() {
  out_.fill_(77);
  const auto begin = spec_.kind == Kind::all_gather ? piece_ * rank_ : 0;
  in_.copy_(numbers(rank_, begin, in_.numel()));
}

void Trial::clear() {
  in_.zero_();
  out_.zero_();
}

Collective Trial::operation() {
  const auto describe = [&] {
    switch (spec_.kind) {
      case Kind::all_gather:
        return Collective::all_gather(in_, out_);
      case Kind::reduce_scatter:
        return Collective::reduce_scatter(in_, out_, spec_.reduce);
      case Kind::all_to_all:
        return Collective::all_to_all(in_, out_);
      case Kind::broadcast:
        if (!in_.is_same(out_) && rank_ == spec_.root) out_.copy_(in_);
        return Collective::broadcast(out_, spec_.root);
      default:
        if (!in_.is_same(out_)) out_.copy_(in_);
        return Collective::all_reduce(out_, spec_.reduce);
    }
  };
  auto op = describe();
  op.algorithm = spec_.algorithm;
  return op;
}

std::future<void> Trial::start(Communicator& c) {
  return c.start(operation());
}

void Trial::perform(Communicator& c) {
  acp::perform(c, operation());
  finish(spec_.device);
}

std::int64_t Trial::wrong() const {
  return out_.cpu().ne(expected()).sum().item<std::int64_t>();
}

at::Tensor Trial::numbers(int rank, std::int64_t begin, std::int64_t count) const {
  const bool floating = at::isFloatingType(spec_.type), is_byte = spec_.type == at::kByte;
  const auto largest = std::clamp<std::int64_t>(largest_sum / ranks_, 1, floating || is_byte ? 30 : 1000);
  std::vector<std::int64_t> table(period);
  for (std::int64_t i = 0; i < period; ++i) {
    const auto key = static_cast<std::uint64_t>(i) * 2654435761U + static_cast<std::uint64_t>(rank) * 40503U +
                     spec_.seed * 97U;
    const auto mixed = static_cast<std::int64_t>((key ^ (key >> 15)) % 1000003U);
    table[static_cast<std::size_t>(i)] =
        is_byte ? mixed % (largest + 1) : mixed % (2 * largest + 1) - largest;
  }
  return repeated(table, begin, count, spec_.type);
}

at::Tensor Trial::reduced(std::int64_t begin, std::int64_t count) const {
  // One period of it says all.
  auto sum = numbers(0, 0, period).to(at::kDouble);
  for (int r = 1; r < ranks_; ++r) {
    const auto theirs = numbers(r, 0, period).to(at::kDouble);
    sum = spec_.reduce == ReduceOp::min   ? at::minimum(sum, theirs)
          : spec_.reduce == ReduceOp::max ? at::maximum(sum, theirs)
                                          : sum + theirs;
  }
  // Divided in float32 where the ranks do so.
  if (spec_.reduce == ReduceOp::average) {
    sum = spec_.type == at::kDouble ? sum / ranks_ : sum.to(at::kFloat) / ranks_;
  }
  const auto once = sum.to(spec_.type);
  const auto first = begin % period;
  return once.repeat({(first + count) / period + 1}).narrow(0, first, count);
}

at::Tensor Trial::expected() const {
  switch (spec_.kind) {
    case Kind::all_reduce:
      return reduced(0, out_.numel());
    case Kind::reduce_scatter:
      return reduced(piece_ * rank_, piece_);
    case Kind::broadcast:
      return numbers(spec_.root, 0, out_.numel());
    default: {
      std::vector<at::Tensor> parts;
      parts.reserve(static_cast<std::size_t>(ranks_));
      const auto begin = [&](int from) { return piece_ * (spec_.kind == Kind::all_gather ? from : rank_); };
      for (int r = 0; r < ranks_; ++r) parts.push_back(numbers(r, begin(r), piece_));
      return at::cat(parts);
    }
  }
}

}  // namespace acp::programs
