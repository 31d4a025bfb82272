// Collectives on tensors over the calling thread's context; each blocking, in place, or asynchronous.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <future>
#include <string>
#include <vector>

#include "acp/context.h"
#include "comm/collective.h"

namespace acp {

// A started collective. wait() returns the result or throws; destroyed unawaited, it waits and drops what
// went wrong.
class [[nodiscard]] Handle {
 public:
  Handle(std::future<void> done, std::function<at::Tensor()> result);
  Handle(Handle&&) noexcept = default;
  Handle& operator=(Handle&&) noexcept = default;
  ~Handle();
  at::Tensor wait();  // once
  bool ready() const;

 private:
  std::future<void> done_;
  std::function<at::Tensor()> result_;
};

// All of them: every rank calls the same in the same order, from one thread at a time; the ranks' tensors
// have one dtype. Arguments may be non-contiguous and of any dtype (sums: float64, float32, float16,
// bfloat16, int64, int32, uint8; bool and others only where nothing is added). Results are new tensors unless
// the name ends in `_`.

// The reduction over the ranks of tensors of one shape; the mean, as in Horovod, unless another `op` is
// given.
at::Tensor all_reduce(const at::Tensor& x, ReduceOp op = ReduceOp::average);
at::Tensor& all_reduce_(at::Tensor& x, ReduceOp op = ReduceOp::average);
Handle all_reduce_async(const at::Tensor& x, ReduceOp op = ReduceOp::average);

// The ranks' tensors one after the other along dimension 0, in which they may differ in size. A 0-dimensional
// tensor counts as one of one element.
at::Tensor all_gather(const at::Tensor& x);
Handle all_gather_async(const at::Tensor& x);

// Piece rank() of the reduction, along dimension 0, whose size must be a multiple of size().
at::Tensor reduce_scatter(const at::Tensor& x, ReduceOp op = ReduceOp::average);
Handle reduce_scatter_async(const at::Tensor& x, ReduceOp op = ReduceOp::average);

// Piece r along dimension 0 goes to rank r; the result has the pieces of all ranks in their order. `splits`
// (one for each rank, adding up to the first dimension) makes pieces of different sizes.
at::Tensor all_to_all(const at::Tensor& x, const std::vector<std::int64_t>& splits = {});
Handle all_to_all_async(const at::Tensor& x, const std::vector<std::int64_t>& splits = {});

// `root`'s tensor; the others give one of the same shape and dtype.
at::Tensor broadcast(const at::Tensor& x, int root = 0);
at::Tensor& broadcast_(at::Tensor& x, int root = 0);
Handle broadcast_async(const at::Tensor& x, int root = 0);

// Returns when every rank has called it.
void barrier();
Handle barrier_async();

}  // namespace acp
