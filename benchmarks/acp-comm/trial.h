// One collective of one size with numbers whose result is known exactly.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <future>

#include "comm/communicator.h"

namespace acp::programs {

struct TrialSpec {
  Collective::Kind kind = Collective::Kind::all_reduce;
  std::int64_t bytes = 0;  // about; see Trial::bytes()
  at::ScalarType type = at::kFloat;
  ReduceOp reduce = ReduceOp::sum;
  Algorithm algorithm = Algorithm::automatic;
  int root = 0;
  bool in_place = true;
  std::uint64_t seed = 42;
  at::Device device = at::kCPU;
};

// Whether the operation has a form whose result lies where the input was: all but reduce_scatter and
// all_to_all.
bool has_in_place(Collective::Kind kind);

// Bus bandwidth / algorithm bandwidth as nccl-tests defines them (doc/PERFORMANCE.md there): 2 (n - 1) / n
// for all_reduce, 1 for broadcast, (n - 1) / n else.
double bus_factor(Collective::Kind kind, int ranks);

// The tensors of one rank. Whole numbers, small enough that sums over all ranks are exact in any order and
// type.
class Trial {
 public:
  Trial(const TrialSpec& spec, int rank, int ranks);

  // Of the tensor of an all_reduce or broadcast, of the whole input of a reduce_scatter or all_to_all, of the
  // whole output of an all_gather; a whole number of elements for each rank, at least one.
  std::int64_t bytes() const;

  void reset();  // inputs as they shall be, outputs spoilt
  void clear();  // all zero, so that repeated sums stay finite
  // Out of place: with the copy of the input that this takes. start() for several at once; perform() is what
  // a blocking call of the library does, and waits for the device.
  std::future<void> start(Communicator& c);
  void perform(Communicator& c);
  std::int64_t wrong() const;  // elements that are not the result, after reset() and one perform()

 private:
  Collective operation();
  at::Tensor numbers(int rank, std::int64_t begin, std::int64_t count) const;
  at::Tensor reduced(std::int64_t begin, std::int64_t count) const;
  at::Tensor expected() const;

  const TrialSpec spec_;
  const int rank_, ranks_;
  std::int64_t piece_ = 1;  // elements for each rank
  at::Tensor in_, out_;     // the same tensor where the operation works in place
};

}  // namespace acp::programs
