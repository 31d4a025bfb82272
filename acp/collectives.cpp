// Tensor collectives: brings arguments into the form that the wire takes, and results back.
#include "acp/collectives.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/view_as_complex.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/zeros.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <numeric>
#include <sstream>

#include "acp/agreement.h"
#include "acp/hash.h"
#include "acp/user_queue.h"
#include "comm/error.h"
#include "comm/streams.h"

namespace acp {

namespace {

using Work = UserQueue::Work;

UserQueue& queue() {
  return current_context().user_queue();
}

// On the queue's thread, which has a current stream of its own: behind what the caller has asked of the GPU,
// and the result is there for any stream.
Handle start(Work work) {
  const at::Device device = current_context().device();
  if (device.is_cpu()) return Handle(queue().start(std::move(work)));
  return Handle(
      queue().start([work = std::move(work), before = mark_current(device), device](Communicator& channel) {
        join(before);
        at::Tensor result = work(channel);
        finish(device);
        return result;
      }));
}

void require_dense(const at::Tensor& x, const char* what) {
  if (!x.defined()) throw ConfigError(std::string(what) + ": the tensor is undefined");
  if (x.layout() != at::kStrided || x.is_quantized() || x.is_meta()) {
    throw ConfigError(std::string(what) + ": takes dense tensors with values, not " + x.toString());
  }
}

// Where the wire can work: contiguous, on the CPU or this rank's device, outside the graph; x itself where it
// is so already.
at::Tensor on_wire(const at::Tensor& x) {
  const at::Device device = x.device() == current_context().device() ? x.device() : at::Device(at::kCPU);
  return x.detach().to(device).resolve_conj().resolve_neg().contiguous();
}

// A copy of which x knows nothing.
at::Tensor copy_on_wire(const at::Tensor& x) {
  const at::Tensor wire = on_wire(x);
  return wire.is_alias_of(x) ? wire.clone() : wire;
}

// The result into x. Where the wire has worked on x's own memory autograd still has to see that x has
// changed.
at::Tensor put_back(const at::Tensor& wire, at::Tensor x) {
  if (!wire.is_alias_of(x)) {
    x.detach().copy_(wire);
  } else if (!x.is_inference()) {
    x.unsafeGetTensorImpl()->bump_version();
  }
  return x;
}

// Data that is only moved goes as bytes, whatever its type.
at::Tensor as_bytes(const at::Tensor& x) {
  return x.view(-1).view(at::kByte);
}

// What must be equal on all ranks when they may differ in dimension 0: "Float [*, 3]".
std::string row_text(const at::Tensor& x) {
  std::ostringstream text;
  text << at::toString(x.scalar_type()) << " [*";
  for (std::int64_t d = 1; d < x.dim(); ++d) text << ", " << x.size(d);
  text << "]";
  return text.str();
}

std::int64_t row_hash(const std::string& text) {
  return static_cast<std::int64_t>(Hash().add(text).value());
}

// Called on every rank when the hashes of all have been seen to differ.
[[noreturn]] void refuse_rows(Communicator& channel, const char* what, const std::string& mine) {
  const std::vector<std::string> all = all_gather_bytes(channel, mine);
  std::size_t other = 1;
  while (other + 1 < all.size() && all[other] == all[0]) ++other;
  throw ConfigError(std::string(what) + ": rank 0 gives " + all[0] + " and rank " + std::to_string(other) +
                    " " + all[other] + "; only dimension 0 (*) may differ");
}

std::vector<std::int64_t> with_rows(const at::Tensor& x, std::int64_t rows) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  if (shape.empty()) return {rows};
  shape[0] = rows;
  return shape;
}

// A tensor in a type that ranks can add up, and the way back.
struct Reducible {
  at::Tensor tensor;  // contiguous, where the wire can work; shares x's memory where nothing had to change
  ReduceOp op = ReduceOp::sum;
};

Reducible reducible(const at::Tensor& x, ReduceOp op, const char* what) {
  const at::ScalarType type = x.scalar_type();
  const bool ordered = op == ReduceOp::min || op == ReduceOp::max;
  if (op == ReduceOp::average && !at::isFloatingType(type) && !at::isComplexType(type)) {
    throw ConfigError(std::string(what) + ": the average of " + at::toString(type) +
                      " is no such number; give ReduceOp::sum, or a floating type");
  }
  const at::Tensor wire = on_wire(x);
  switch (type) {
    case at::kBool:
      return {wire.view(at::kByte), op == ReduceOp::sum ? ReduceOp::max : op};
    case at::kChar:
    case at::kShort:
      return {wire.to(at::kInt), op};
    case at::kHalf:
    case at::kBFloat16:
      return {ordered ? wire.to(at::kFloat) : wire, op};
    case at::kComplexFloat:
    case at::kComplexDouble:
      if (ordered)
        throw ConfigError(std::string(what) + ": complex numbers have no " +
                          (op == ReduceOp::min ? "minimum" : "maximum"));
      return {at::view_as_real(wire), op};
    case at::kByte:
    case at::kInt:
    case at::kLong:
    case at::kFloat:
    case at::kDouble:
      return {wire, op};
    default:
      throw ConfigError(std::string(what) + ": cannot reduce elements of type " + at::toString(type));
  }
}

// From the type and place of the wire to those of x.
at::Tensor restore(const at::Tensor& wire, const at::Tensor& x) {
  if (at::isComplexType(x.scalar_type())) return at::view_as_complex(wire).to(x.device());
  if (x.scalar_type() == at::kBool) return wire.view(at::kBool).to(x.device());
  return wire.to(x.options().requires_grad(false));
}

void require_root(int root) {
  const int n = size();
  if (root < 0 || root >= n) {
    throw ConfigError("broadcast: root " + std::to_string(root) + " is not one of the " + std::to_string(n) +
                      " ranks");
  }
}

Work all_reduce_work(const at::Tensor& x, ReduceOp op, Algorithm algorithm, bool in_place) {
  require_dense(x, "all_reduce");
  Reducible r = reducible(x, op, "all_reduce");
  if (!in_place && r.tensor.is_alias_of(x)) r.tensor = r.tensor.clone();
  Collective collective = Collective::all_reduce(r.tensor, r.op);
  collective.algorithm = algorithm;
  return
      [x, in_place, wire = std::move(r.tensor), collective = std::move(collective)](Communicator& channel) {
        perform(channel, collective);
        const at::Tensor result = restore(wire, x);
        return in_place ? put_back(result, x) : result;
      };
}

Work broadcast_work(const at::Tensor& x, int root, bool in_place) {
  require_dense(x, "broadcast");
  require_root(root);
  const at::Tensor wire = in_place ? on_wire(x) : copy_on_wire(x);
  return [x, root, in_place, wire](Communicator& channel) {
    perform(channel, Collective::broadcast(as_bytes(wire), root));
    return in_place ? put_back(wire, x) : wire.to(x.device());
  };
}

Work all_gather_work(const at::Tensor& x) {
  require_dense(x, "all_gather");
  at::Tensor mine = on_wire(x);
  if (mine.dim() == 0) mine = mine.view({1});
  return [x, mine](Communicator& channel) {
    const std::string text = row_text(mine);
    const at::Tensor header = at::empty({2}, at::kLong), headers = at::empty({channel.size(), 2}, at::kLong);
    header.data_ptr<std::int64_t>()[0] = mine.size(0);
    header.data_ptr<std::int64_t>()[1] = row_hash(text);
    perform(channel, Collective::all_gather(header, headers));

    const auto* each = headers.const_data_ptr<std::int64_t>();
    const std::int64_t row_bytes =
        c10::multiply_integers(mine.sizes().slice(1)) * static_cast<std::int64_t>(mine.element_size());
    std::vector<std::int64_t> counts;
    std::int64_t rows = 0;
    bool agreed = true;
    for (int r = 0; r < channel.size(); ++r) {
      const auto* const header = each + 2 * static_cast<std::ptrdiff_t>(r);
      agreed = agreed && header[1] == each[1];
      rows += header[0];
      counts.push_back(header[0] * row_bytes);
    }
    if (!agreed) refuse_rows(channel, "all_gather", text);
    const at::Tensor all = at::empty(with_rows(mine, rows), mine.options());
    perform(channel, Collective::all_gather_v(as_bytes(mine), as_bytes(all), std::move(counts)));
    return all.to(x.device());
  };
}

Work reduce_scatter_work(const at::Tensor& x, ReduceOp op) {
  require_dense(x, "reduce_scatter");
  if (x.dim() == 0) throw ConfigError("reduce_scatter: a 0-dimensional tensor has no rows to deal out");
  const Reducible r = reducible(x, op, "reduce_scatter");
  return [x, r](Communicator& channel) {
    const std::int64_t n = channel.size(), me = channel.rank();
    const std::int64_t rows = x.size(0), most = (rows + n - 1) / n, longer = rows % n;
    const auto piece = [&](std::int64_t rank) { return rows / n + (rank < longer ? 1 : 0); };
    at::Tensor all = r.tensor;
    if (longer != 0) {  // the wire takes equal pieces
      all = at::zeros(with_rows(r.tensor, n * most), r.tensor.options());
      for (std::int64_t rank = 0, from = 0; rank < n; from += piece(rank++)) {
        all.narrow(0, rank * most, piece(rank)).copy_(r.tensor.narrow(0, from, piece(rank)));
      }
    }
    const at::Tensor mine = at::empty(with_rows(r.tensor, most), r.tensor.options());
    perform(channel, Collective::reduce_scatter(all, mine, r.op));
    return restore(mine.narrow(0, 0, piece(me)), x);
  };
}

// The rows for each rank; ConfigError if they do not fit.
std::vector<std::int64_t> pieces_of(const at::Tensor& x, const std::vector<std::int64_t>& splits, int n) {
  if (splits.empty()) {
    if (x.size(0) % n != 0) {
      throw ConfigError("all_to_all: " + std::to_string(x.size(0)) + " rows cannot be dealt equally to " +
                        std::to_string(n) + " ranks; give splits");
    }
    return std::vector<std::int64_t>(static_cast<std::size_t>(n), x.size(0) / n);
  }
  const bool negative = std::ranges::any_of(splits, [](std::int64_t rows) { return rows < 0; });
  const std::int64_t sum = std::accumulate(splits.begin(), splits.end(), std::int64_t{0});
  if (std::ssize(splits) != n || negative || sum != x.size(0)) {
    throw ConfigError("all_to_all: splits must be " + std::to_string(n) +
                      " numbers from 0, one for each rank, that add up to the " + std::to_string(x.size(0)) +
                      " rows; given are " + std::to_string(splits.size()) + " that add up to " +
                      std::to_string(sum));
  }
  return splits;
}

Work all_to_all_work(const at::Tensor& x, const std::vector<std::int64_t>& splits) {
  require_dense(x, "all_to_all");
  if (x.dim() == 0) throw ConfigError("all_to_all: a 0-dimensional tensor has no rows to deal out");
  return [x, mine = on_wire(x), pieces = pieces_of(x, splits, size())](Communicator& channel) {
    const std::int64_t n = channel.size();
    const std::string text = row_text(mine);
    const at::Tensor header = at::empty({n, 2}, at::kLong), headers = at::empty({n, 2}, at::kLong);
    for (std::int64_t r = 0; r < n; ++r) {
      header.data_ptr<std::int64_t>()[2 * r] = pieces[static_cast<std::size_t>(r)];
      header.data_ptr<std::int64_t>()[2 * r + 1] = row_hash(text);
    }
    perform(channel, Collective::all_to_all(header, headers));

    const auto* each = headers.const_data_ptr<std::int64_t>();
    const std::int64_t row_bytes =
        c10::multiply_integers(mine.sizes().slice(1)) * static_cast<std::int64_t>(mine.element_size());
    std::vector<std::int64_t> in_counts, out_counts;
    std::int64_t rows = 0;
    bool agreed = true;
    for (std::int64_t r = 0; r < n; ++r) {
      agreed = agreed && each[2 * r + 1] == each[1];
      rows += each[2 * r];
      in_counts.push_back(pieces[static_cast<std::size_t>(r)] * row_bytes);
      out_counts.push_back(each[2 * r] * row_bytes);
    }
    if (!agreed) refuse_rows(channel, "all_to_all", text);
    const at::Tensor theirs = at::empty(with_rows(mine, rows), mine.options());
    perform(channel, Collective::all_to_all_v(as_bytes(mine), std::move(in_counts), as_bytes(theirs),
                                              std::move(out_counts)));
    return theirs.to(x.device());
  };
}

Work barrier_work() {
  return [](Communicator& channel) {
    perform(channel, Collective::barrier());
    return at::Tensor();
  };
}

}  // namespace

at::Tensor all_reduce(const at::Tensor& x, ReduceOp op, Algorithm algorithm) {
  return queue().run(all_reduce_work(x, op, algorithm, false));
}
Handle all_reduce_async(const at::Tensor& x, ReduceOp op, Algorithm algorithm) {
  return start(all_reduce_work(x, op, algorithm, false));
}
at::Tensor all_reduce_(const at::Tensor& x, ReduceOp op, Algorithm algorithm) {
  return queue().run(all_reduce_work(x, op, algorithm, true));
}
Handle all_reduce_async_(const at::Tensor& x, ReduceOp op, Algorithm algorithm) {
  return start(all_reduce_work(x, op, algorithm, true));
}

at::Tensor all_gather(const at::Tensor& x) {
  return queue().run(all_gather_work(x));
}
Handle all_gather_async(const at::Tensor& x) {
  return start(all_gather_work(x));
}

at::Tensor reduce_scatter(const at::Tensor& x, ReduceOp op) {
  return queue().run(reduce_scatter_work(x, op));
}
Handle reduce_scatter_async(const at::Tensor& x, ReduceOp op) {
  return start(reduce_scatter_work(x, op));
}

at::Tensor all_to_all(const at::Tensor& x, const std::vector<std::int64_t>& splits) {
  return queue().run(all_to_all_work(x, splits));
}
Handle all_to_all_async(const at::Tensor& x, const std::vector<std::int64_t>& splits) {
  return start(all_to_all_work(x, splits));
}

at::Tensor broadcast(const at::Tensor& x, int root) {
  return queue().run(broadcast_work(x, root, false));
}
Handle broadcast_async(const at::Tensor& x, int root) {
  return start(broadcast_work(x, root, false));
}
at::Tensor broadcast_(const at::Tensor& x, int root) {
  return queue().run(broadcast_work(x, root, true));
}
Handle broadcast_async_(const at::Tensor& x, int root) {
  return start(broadcast_work(x, root, true));
}

void barrier() {
  queue().run(barrier_work());
}
Handle barrier_async() {
  return start(barrier_work());
}

}  // namespace acp
