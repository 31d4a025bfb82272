// Collectives on tensors over the calling thread's context: blocking, in place, or asynchronous.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <vector>

#include "acp/context.h"
#include "comm/collective.h"

namespace acp {

// A started collective. It keeps alive the tensors that it works on; destroyed without wait(), it lets the
// operation go on and drops its result or error. Copies wait for the same operation.
class [[nodiscard]] Handle {
 public:
  explicit Handle(std::future<at::Tensor> result) : result_(std::move(result)) {}
  // Blocks until the operation has ended; the result (undefined for a barrier), or throws what went wrong.
  // May be called again.
  at::Tensor wait() const { return result_.get(); }
  // Whether wait() would return at once.
  bool ready() const { return result_.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }

 private:
  std::shared_future<at::Tensor> result_;
};

// All of them: every rank calls the same ones in the same order, from one thread at a time. Tensors may be
// non-contiguous, 0-dimensional, empty, and need not be on the CPU: from context.device() they travel as
// gradients do, from any other device through the CPU (on all ranks alike). Moved data may have any dtype;
// what can be reduced:
//   sum, min, max  float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8, bool (sum and max: or; min:
//   and) sum            complex128 complex64 average        the floating and complex types
// Half-precision sums are added in float32, in rank order or host by host (docs/algorithms.md), and rounded
// once (by NCCL as it does). Results are
// new tensors outside the autograd graph, unless the name ends in `_`. While an asynchronous operation is
// under way its argument must not change, and in place it must not be read either. ConfigError: an argument
// that makes no sense; of all_gather and all_to_all also sizes that do not fit, on every rank, naming both.
// Elsewhere ranks that disagree in bytes, dtype, operation or root learn it from the first message that does
// not fit: a PeerError, after which the channel is closed. Shapes of the same number of elements are not
// compared. CommunicationError: all else.

// The reduction over the ranks of tensors of one shape: the mean, as in Horovod, unless `op` says otherwise.
at::Tensor all_reduce(const at::Tensor& x, ReduceOp op = ReduceOp::average,
                      Algorithm algorithm = Algorithm::automatic);
Handle all_reduce_async(const at::Tensor& x, ReduceOp op = ReduceOp::average,
                        Algorithm algorithm = Algorithm::automatic);
// In place; returns x.
at::Tensor all_reduce_(const at::Tensor& x, ReduceOp op = ReduceOp::average,
                       Algorithm algorithm = Algorithm::automatic);
Handle all_reduce_async_(const at::Tensor& x, ReduceOp op = ReduceOp::average,
                         Algorithm algorithm = Algorithm::automatic);

// The ranks' tensors one after the other along dimension 0, in which they may differ in size. A 0-dimensional
// tensor counts as one of one element.
at::Tensor all_gather(const at::Tensor& x);
Handle all_gather_async(const at::Tensor& x);

// This rank's piece, along dimension 0, of the reduction: the rows are dealt out in order, the first
// (rows % size()) ranks getting one more.
at::Tensor reduce_scatter(const at::Tensor& x, ReduceOp op = ReduceOp::average);
Handle reduce_scatter_async(const at::Tensor& x, ReduceOp op = ReduceOp::average);

// Piece r along dimension 0 goes to rank r; the result has the pieces from all ranks, in their order.
// `splits` has the rows for each rank and adds up to all of them; without it the pieces are equal. (The rows
// received from each rank are all_to_all(torch::tensor(splits)).)
at::Tensor all_to_all(const at::Tensor& x, const std::vector<std::int64_t>& splits = {});
Handle all_to_all_async(const at::Tensor& x, const std::vector<std::int64_t>& splits = {});

// `root`'s tensor; the others give one of the same shape and dtype.
at::Tensor broadcast(const at::Tensor& x, int root = 0);
Handle broadcast_async(const at::Tensor& x, int root = 0);
at::Tensor broadcast_(const at::Tensor& x, int root = 0);  // in place; returns x
Handle broadcast_async_(const at::Tensor& x, int root = 0);

// Returns when every rank has called it.
void barrier();
Handle barrier_async();

}  // namespace acp
