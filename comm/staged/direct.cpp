// Every collective as messages between pairs of ranks, with the device's own sums in between.
#include "comm/staged/direct.h"

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace acp {

namespace {

using Kind = Collective::Kind;
using Counts = std::vector<std::int64_t>;

// Flat pieces of `x`, one for each rank.
std::vector<at::Tensor> cut(const at::Tensor& x, const Counts& counts) {
  std::vector<at::Tensor> pieces;
  std::int64_t at = 0;
  for (const std::int64_t count : counts) {
    pieces.push_back(x.view(-1).narrow(0, at, count));
    at += count;
  }
  return pieces;
}

Counts equal(std::int64_t piece, int size) {
  return Counts(static_cast<std::size_t>(size), piece);
}

// As equal as whole elements allow.
Counts shares(std::int64_t numel, int size) {
  Counts counts;
  for (std::int64_t r = 0; r < size; ++r) counts.push_back(numel * (r + 1) / size - numel * r / size);
  return counts;
}

at::Tensor reduced(const std::vector<at::Tensor>& inputs, ReduceOp op) {
  const at::ScalarType type = inputs.front().scalar_type();
  const bool half = type == at::kHalf || type == at::kBFloat16;
  at::Tensor sum = inputs.front().to(half ? at::kFloat : type, false, true);
  for (std::size_t r = 1; r < inputs.size(); ++r) {
    if (op == ReduceOp::min) {
      at::minimum_out(sum, sum, inputs[r].to(sum.scalar_type()));
    } else if (op == ReduceOp::max) {
      at::maximum_out(sum, sum, inputs[r].to(sum.scalar_type()));
    } else {
      sum.add_(inputs[r]);
    }
  }
  if (op == ReduceOp::average) sum.div_(static_cast<std::int64_t>(inputs.size()));
  return sum.to(type);
}

// One collective, on the thread of the queue.
class Run {
 public:
  Run(Communicator& host, const Collective& op, const std::function<void(const MarkPtr&)>& wait)
      : host_(host), op_(op), wait_(wait), n_(host.size()), rank_(host.rank()) {}

  void perform() {
    const at::Tensor &in = op_.in, &out = op_.out;
    switch (op_.kind) {
      case Kind::all_reduce: {
        const Counts counts = shares(in.numel(), n_);
        const auto pieces = cut(in, counts);
        mine(pieces).copy_(reduce(pieces));
        finish_here(in);
        gather(pieces);
        break;
      }
      case Kind::reduce_scatter:
        out.view(-1).copy_(reduce(cut(in, equal(out.numel(), n_))));
        break;
      case Kind::all_gather:
      case Kind::all_gather_v: {
        const auto pieces = cut(out, op_.kind == Kind::all_gather ? equal(in.numel(), n_) : op_.out_counts);
        if (in.numel() > 0 && mine(pieces).data_ptr() != in.data_ptr()) mine(pieces).copy_(in.view(-1));
        finish_here(out);
        gather(pieces);
        break;
      }
      case Kind::all_to_all:
        exchange(cut(in, equal(in.numel() / n_, n_)), cut(out, equal(in.numel() / n_, n_)));
        break;
      case Kind::all_to_all_v:
        exchange(cut(in, op_.in_counts), cut(out, op_.out_counts));
        break;
      case Kind::send_receive:
        if (op_.send_to == rank_) {
          out.copy_(in);
        } else {
          shift(op_.send_to, in, op_.receive_from, out);
        }
        break;
      case Kind::broadcast:
        pass_on(in.view(-1));
        break;
      case Kind::barrier:
        break;
    }
    finish_here(in.defined() ? in : out);
  }

 private:
  at::Tensor mine(const std::vector<at::Tensor>& pieces) const {
    return pieces[static_cast<std::size_t>(rank_)];
  }
  int neighbour(int distance) const { return (rank_ + distance + n_) % n_; }

  void shift(int to, const at::Tensor& what, int from, const at::Tensor& into) {
    Collective op = Collective::send_receive(to, what, from, into);
    op.label = op_.label;
    host_.perform(std::move(op));
  }

  // What this thread has asked of the device is done: the host's messages know nothing of streams.
  void finish_here(const at::Tensor& x) {
    if (x.defined()) wait_(mark_current(x.device()));
  }

  // Every pair of ranks exchanges its pieces.
  void exchange(const std::vector<at::Tensor>& in, const std::vector<at::Tensor>& out) {
    for (int d = 1; d < n_; ++d) {
      const int to = neighbour(d), from = neighbour(-d);
      shift(to, in[static_cast<std::size_t>(to)], from, out[static_cast<std::size_t>(from)]);
    }
    mine(out).copy_(mine(in));
  }

  // This rank's piece, of all ranks; in memory of its own.
  at::Tensor reduce(const std::vector<at::Tensor>& pieces) {
    std::vector<at::Tensor> inputs;
    inputs.reserve(static_cast<std::size_t>(n_));
    const at::Tensor own = mine(pieces);
    for (int r = 0; r < n_; ++r) inputs.push_back(r == rank_ ? own : at::empty_like(own));
    finish_here(own);
    for (int d = 1; d < n_; ++d) {
      const int to = neighbour(d), from = neighbour(-d);
      shift(to, pieces[static_cast<std::size_t>(to)], from, inputs[static_cast<std::size_t>(from)]);
    }
    return reduced(inputs, op_.op);
  }

  // Round the ring: every rank passes on what it received last.
  void gather(const std::vector<at::Tensor>& pieces) {
    for (int step = 0; step + 1 < n_; ++step) {
      shift(neighbour(1), pieces[static_cast<std::size_t>(neighbour(-step))], neighbour(-1),
            pieces[static_cast<std::size_t>(neighbour(-step - 1))]);
    }
  }

  // Down a chain that begins at the root, in pieces, so that all its links are at work.
  void pass_on(const at::Tensor& x) {
    constexpr std::int64_t piece_bytes = std::int64_t{4} << 20;
    const std::int64_t step = piece_bytes / x.element_size();
    const std::int64_t pieces = std::max<std::int64_t>(1, (x.numel() + step - 1) / step);
    const int place = (rank_ - op_.root + n_) % n_;
    const int to = place + 1 < n_ ? neighbour(1) : -1, from = place > 0 ? neighbour(-1) : -1;
    const auto piece = [&](std::int64_t k) {
      return x.narrow(0, std::min(k * step, x.numel()),
                      std::clamp<std::int64_t>(x.numel() - k * step, 0, step));
    };
    // The root has every piece; the others send the one before the one that arrives.
    for (std::int64_t k = 0; k <= pieces; ++k) {
      const std::int64_t leaving = from < 0 ? k : k - 1;
      const bool sends = to >= 0 && leaving >= 0 && leaving < pieces, receives = from >= 0 && k < pieces;
      if (sends || receives) {
        shift(sends ? to : -1, sends ? piece(leaving) : at::Tensor(), receives ? from : -1,
              receives ? piece(k) : at::Tensor());
      }
    }
  }

  Communicator& host_;
  const Collective& op_;
  const std::function<void(const MarkPtr&)>& wait_;
  const int n_, rank_;
};

}  // namespace

void perform_direct(Communicator& host, const Collective& op, const std::function<void(const MarkPtr&)>& wait,
                    const std::optional<c10::Stream>& stream) {
  const at::Tensor& x = op.in.defined() ? op.in : op.out;
  std::optional<c10::StreamGuard> guard;
  if (stream && x.defined() && !x.device().is_cpu()) guard.emplace(*stream);
  Run(host, op, wait).perform();
}

}  // namespace acp
