// Tensor collectives: makes arguments contiguous, starts them on the user's channel, shapes the results.
#include "acp/collectives.h"

#include <ATen/ops/empty.h>

#include "acp/agreement.h"
#include "comm/error.h"

namespace acp {

namespace {

Communicator& channel() {
  return current_context().user_channel();
}

at::Tensor contiguous(const at::Tensor& x, const char* what) {
  if (!x.defined()) throw ConfigError(std::string(what) + ": the tensor is undefined");
  if (!x.device().is_cpu()) {
    throw ConfigError(std::string(what) + ": the tensor is on " + x.device().str() +
                      "; the backend in use takes CPU tensors");
  }
  return x.detach().contiguous();
}

// Types that cannot be added travel as their bytes.
at::Tensor as_bytes(const at::Tensor& x) {
  return x.view(-1).view(at::kByte);
}

Handle start(Collective op, std::function<at::Tensor()> result) {
  return {channel().start(std::move(op)), std::move(result)};
}

std::vector<std::int64_t> shape_with(const at::Tensor& x, std::int64_t first) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  if (shape.empty()) shape.push_back(1);
  shape[0] = first;
  return shape;
}

// Everybody's number, in rank order.
std::vector<std::int64_t> gather_numbers(const std::vector<std::int64_t>& mine) {
  const auto width = static_cast<std::int64_t>(mine.size());
  const at::Tensor in = at::empty({width}, at::kLong);
  std::copy(mine.begin(), mine.end(), in.data_ptr<std::int64_t>());
  const at::Tensor all = at::empty({width * channel().size()}, at::kLong);
  perform(channel(), Collective::all_gather(in, all));
  return {all.const_data_ptr<std::int64_t>(), all.const_data_ptr<std::int64_t>() + all.numel()};
}

}  // namespace

Handle::Handle(std::future<void> done, std::function<at::Tensor()> result)
    : done_(std::move(done)), result_(std::move(result)) {}

Handle::~Handle() {
  if (done_.valid()) done_.wait();
}

at::Tensor Handle::wait() {
  if (!done_.valid()) throw Error("wait() was called before on this handle");
  done_.get();
  return result_();
}

bool Handle::ready() const {
  return !done_.valid() || done_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

Handle all_reduce_async(const at::Tensor& x, ReduceOp op) {
  at::Tensor result = contiguous(x, "all_reduce").clone();
  return start(Collective::all_reduce(result, op), [result] { return result; });
}
at::Tensor all_reduce(const at::Tensor& x, ReduceOp op) {
  return all_reduce_async(x, op).wait();
}
at::Tensor& all_reduce_(at::Tensor& x, ReduceOp op) {
  const at::Tensor result = all_reduce(x, op);
  x.detach().copy_(result);
  return x;
}

Handle all_gather_async(const at::Tensor& x) {
  const at::Tensor mine = contiguous(x, "all_gather");
  const std::int64_t rows = mine.dim() == 0 ? 1 : mine.size(0);
  // Rows of each rank, and what a row holds: the rest of the shape must agree.
  const std::int64_t row = rows == 0 ? -1 : mine.numel() / rows;
  const std::vector<std::int64_t> all = gather_numbers({rows, row});
  std::vector<std::int64_t> counts;
  std::int64_t total = 0;
  for (std::size_t r = 0; 2 * r < all.size(); ++r) {
    if (row >= 0 && all[2 * r + 1] >= 0 && all[2 * r + 1] != row) {
      throw ConfigError("all_gather: rank " + std::to_string(r) + " has " + std::to_string(all[2 * r + 1]) +
                        " elements for each index of dimension 0, rank " + std::to_string(rank()) + " has " +
                        std::to_string(row) + "; only dimension 0 may differ");
    }
    total += all[2 * r];
    const std::int64_t width = all[2 * r + 1] < 0 ? 0 : all[2 * r + 1];
    counts.push_back(all[2 * r] * width * static_cast<std::int64_t>(mine.element_size()));
  }
  at::Tensor result = at::empty(shape_with(mine, total), mine.options());
  return start(Collective::all_gather_v(as_bytes(mine), as_bytes(result), std::move(counts)),
               [result] { return result; });
}
at::Tensor all_gather(const at::Tensor& x) {
  return all_gather_async(x).wait();
}

Handle reduce_scatter_async(const at::Tensor& x, ReduceOp op) {
  const at::Tensor all = contiguous(x, "reduce_scatter");
  const int n = channel().size();
  if (all.dim() == 0 || all.size(0) % n != 0) {
    throw ConfigError("reduce_scatter: dimension 0 must be a multiple of the " + std::to_string(n) +
                      " ranks");
  }
  at::Tensor result = at::empty(shape_with(all, all.size(0) / n), all.options());
  return start(Collective::reduce_scatter(all, result, op), [result] { return result; });
}
at::Tensor reduce_scatter(const at::Tensor& x, ReduceOp op) {
  return reduce_scatter_async(x, op).wait();
}

Handle all_to_all_async(const at::Tensor& x, const std::vector<std::int64_t>& splits) {
  const at::Tensor mine = contiguous(x, "all_to_all");
  const auto n = static_cast<std::size_t>(channel().size());
  const auto me = static_cast<std::size_t>(channel().rank());
  if (mine.dim() == 0) throw ConfigError("all_to_all: the tensor has no dimension to split");
  std::vector<std::int64_t> pieces = splits;
  if (pieces.empty()) {
    if (mine.size(0) % static_cast<std::int64_t>(n) != 0) {
      throw ConfigError("all_to_all: dimension 0 must be a multiple of the " + std::to_string(n) +
                        " ranks, or give splits");
    }
    pieces.assign(n, mine.size(0) / static_cast<std::int64_t>(n));
  }
  std::int64_t sum = 0;
  for (const std::int64_t p : pieces) sum += p;
  if (pieces.size() != n || sum != mine.size(0)) {
    throw ConfigError("all_to_all: splits must be " + std::to_string(n) + " numbers that add up to " +
                      std::to_string(mine.size(0)));
  }
  const std::vector<std::int64_t> all = gather_numbers(pieces);
  std::int64_t row = static_cast<std::int64_t>(mine.element_size());
  for (std::int64_t d = 1; d < mine.dim(); ++d) row *= mine.size(d);
  std::vector<std::int64_t> out_counts;
  std::vector<std::int64_t> in_counts;
  std::int64_t total = 0;
  for (std::size_t r = 0; r < n; ++r) {
    in_counts.push_back(pieces[r] * row);
    out_counts.push_back(all[r * n + me] * row);
    total += all[r * n + me];
  }
  at::Tensor result = at::empty(shape_with(mine, total), mine.options());
  return start(
      Collective::all_to_all_v(as_bytes(mine), std::move(in_counts), as_bytes(result), std::move(out_counts)),
      [result] { return result; });
}
at::Tensor all_to_all(const at::Tensor& x, const std::vector<std::int64_t>& splits) {
  return all_to_all_async(x, splits).wait();
}

Handle broadcast_async(const at::Tensor& x, int root) {
  if (root < 0 || root >= channel().size()) {
    throw ConfigError("broadcast: root " + std::to_string(root) + " is not one of the " +
                      std::to_string(channel().size()) + " ranks");
  }
  at::Tensor result = contiguous(x, "broadcast").clone();
  return start(Collective::broadcast(as_bytes(result), root), [result] { return result; });
}
at::Tensor broadcast(const at::Tensor& x, int root) {
  return broadcast_async(x, root).wait();
}
at::Tensor& broadcast_(at::Tensor& x, int root) {
  const at::Tensor result = broadcast(x, root);
  x.detach().copy_(result);
  return x;
}

Handle barrier_async() {
  return start(Collective::barrier(), [] { return at::Tensor(); });
}
void barrier() {
  barrier_async().wait();
}

}  // namespace acp
