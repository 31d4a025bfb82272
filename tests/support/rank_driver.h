// One rank's compressor on one bucket, for tests: gradients in by name, averages out by name.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "compressors/philox.h"
#include "compressors/registry.h"
#include "fusion/plan.h"
#include "tests/support/ranks.h"

namespace acp {

using Shapes = std::vector<std::pair<std::string, std::vector<std::int64_t>>>;
using Gradients = std::map<std::string, at::Tensor>;

// Where buckets lie: on the CPU, but for tests of a GPU while they run.
inline at::Device& bucket_device() {
  static at::Device device = at::kCPU;
  return device;
}

// A bucket of these parameters in this order, allocated as the planner does it.
inline Bucket make_bucket(const Shapes& shapes, at::ScalarType type = at::kFloat, int index = 0) {
  std::vector<ParameterInfo> infos;
  Plan plan(1);
  for (const auto& [name, shape] : shapes) {
    plan[0].push_back(static_cast<int>(infos.size()));
    ParameterInfo info;
    info.name = name;
    info.shape = shape;
    info.dtype = type;
    info.device = bucket_device();
    infos.push_back(info);
  }
  auto bucket = std::move(allocate(plan, infos).at(0));
  bucket.index = index;
  return bucket;
}

// Gradients of N(0, 1), a function of rank and step.
inline Gradients random_gradients(const Shapes& shapes, int rank, std::uint64_t step,
                                  at::ScalarType type = at::kFloat) {
  Gradients result;
  for (const auto& [name, shape] : shapes) {
    const auto numbers = at::empty({numel(shape)}, at::kDouble);
    Philox(5, name, step, Purpose::data, static_cast<std::uint32_t>(rank) + 1)
        .fill_normal(std::span(numbers.data_ptr<double>(), static_cast<std::size_t>(numbers.numel())));
    result[name] = numbers.view(shape).to(type);
  }
  return result;
}

// What `body` returns on each of n ranks (threads); nothing is asserted on those threads, Catch2 allows one
// only.
template <class Body>
auto each_rank(int n, const Body& body) {
  std::vector<std::invoke_result_t<Body, Communicator&>> results(static_cast<std::size_t>(n));
  on_ranks(n, [&](Communicator& communicator) {
    results[static_cast<std::size_t>(communicator.rank())] = body(communicator);
  });
  return results;
}

// The ranks' threads exchange memory of the CPU: tensors on a GPU are copied there and back.
inline void perform_anywhere(Communicator& communicator, const Collective& op) {
  auto staged = op;
  if (op.in.defined()) staged.in = op.in.cpu();
  if (op.out.defined()) staged.out = op.out.is_same(op.in) ? staged.in : op.out.cpu();
  perform(communicator, staged);
  auto out = op.out;
  if (out.defined() && !out.is_same(staged.out)) out.copy_(staged.out);
}

// Owns bucket and compressor; keeps the collectives' input bytes of the last step.
class RankDriver {
 public:
  RankDriver(const std::string& spec, const Shapes& shapes, Communicator& communicator,
             const std::string& memory = "", at::ScalarType type = at::kFloat,
             const std::string& granularity = "")
      : communicator_(communicator),
        bucket_(make_bucket(shapes, type)),
        compressor_(CompressorFactory(spec, {memory, seed, granularity}).make(bucket_)) {}

  // One step. Parameters that `gradients` lacks have none: their slots are zeroed, as the reducer does it.
  // `prepare` is what the engine calls before the backward pass.
  Gradients step(const Gradients& gradients, bool prepare = true) {
    const StepContext context{communicator_.rank(), communicator_.size(), next_step++, seed};
    if (prepare) compressor_->prepare(bucket_, context);
    bucket_.grads.zero_();
    for (std::size_t k = 0; k < bucket_.slices.size(); ++k) {
      const auto found = gradients.find(bucket_.slices[k].name);
      bucket_.used[k] = found != gradients.end();
      if (bucket_.used[k] != 0) bucket_.view(bucket_.slices[k]).copy_(found->second.reshape(-1));
    }
    auto exchange = compressor_->exchange(bucket_, context);
    message_bytes.clear();
    while (auto op = exchange.advance()) {
      message_bytes.push_back(op->in.defined() ? static_cast<std::int64_t>(op->in.nbytes()) : 0);
      const auto out = op->out;
      perform_anywhere(communicator_, *op);
      if (received) received(message_bytes.size() - 1, out);
    }
    Gradients averages;
    for (const auto& slice : bucket_.slices)
      averages[slice.name] = bucket_.view(slice).view(slice.shape).clone().cpu();
    return averages;
  }

  // Of the coming step; every parameter counts as one sample otherwise.
  void set_squares(const std::string& name, const at::Tensor& squares) {
    if (!bucket_.squares.defined()) {
      bucket_.squares = at::zeros(bucket_.grads.sizes(), at::kFloat);
      bucket_.has_squares.assign(bucket_.slices.size(), 0);
    }
    for (std::size_t k = 0; k < bucket_.slices.size(); ++k) {
      const auto& slice = bucket_.slices[k];
      if (slice.name != name) continue;
      bucket_.squares.narrow(0, slice.offset, slice.numel()).copy_(squares.reshape(-1));
      bucket_.has_squares[k] = 1;
    }
  }

  // The compressor's, on the CPU.
  State state() const {
    auto state = compressor_->state();
    for (auto& [name, kinds] : state) {
      for (auto& [kind, tensor] : kinds) tensor = tensor.cpu();
    }
    return state;
  }

  Compressor& compressor() { return *compressor_; }
  Bucket& bucket() { return bucket_; }

  static constexpr std::uint64_t seed = 17;
  std::uint64_t next_step = 0;
  std::vector<std::int64_t> message_bytes;
  // Called with each collective's number in the step and what it brought: tests damage it here.
  std::function<void(std::size_t, const at::Tensor&)> received;

 private:
  Communicator& communicator_;
  Bucket bucket_;
  std::unique_ptr<Compressor> compressor_;
};

}  // namespace acp
