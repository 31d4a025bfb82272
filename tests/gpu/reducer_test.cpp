// Gradients and users' tensors on the GPU, through context, engine and staging or NCCL, with one rank.
#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>

#include "acp/collectives.h"
#include "acp/context.h"
#include "acp/gradient_reducer.h"
#include "comm/error.h"
#include "comm/streams.h"
#include "tests/catch.h"
#include "tests/gpu/gpu.h"

using namespace acp;
using namespace acp::test;

namespace {

bool lacks(const std::string& backend) {
  return backend == "nccl" ? no_nccl() : no_gpu();
}

InitOptions on(const std::string& backend) {
  return InitOptions().backend(backend).device("cuda");
}

}  // namespace

TEST_CASE("gradients on the GPU are handed over when they are there", "[gpu][engine]") {
  const std::string backend = GENERATE("local", "nccl");
  const bool own_stream = GENERATE(false, true);
  if (lacks(backend)) return;
  const Context context = init(on(backend));
  REQUIRE(context.device() == at::Device(at::kCUDA, 0));
  std::optional<c10::StreamGuard> stream;
  if (own_stream) stream.emplace(side_stream(context.device()));

  const auto options = at::TensorOptions().device(context.device());
  NamedTensors parameters;
  for (int i = 0; i < 6; ++i) {
    parameters.emplace_back("p" + std::to_string(i), at::ones({512, 512}, options).requires_grad_());
  }
  GradientReducer reducer(parameters, Options().compressor("none").fusion_mb(1));
  for (int step = 1; step <= 8; ++step) {
    at::Tensor loss = at::zeros({}, options);
    for (const auto& [name, p] : parameters) {
      at::Tensor factor = at::full({512, 512}, step, options);
      for (int k = 0; k < 20; ++k) factor = factor.matmul(at::eye(512, options));  // keeps the GPU busy
      loss = loss + (p * factor).sum();
    }
    loss.backward();
    reducer.synchronize();
    for (const auto& [name, p] : parameters) {
      REQUIRE(p.grad().device() == context.device());
      REQUIRE(p.grad().eq(step).all().item<bool>());
    }
  }
}

TEST_CASE("users' collectives take tensors of the GPU from there", "[gpu][collectives]") {
  const std::string backend = GENERATE("local", "nccl");
  if (lacks(backend)) return;
  const Context context = init(on(backend));
  const at::Tensor x =
      at::arange(12, at::TensorOptions().device(context.device()).dtype(at::kFloat)).view({4, 3});
  for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kBool, at::kShort, at::kComplexFloat}) {
    const at::Tensor y = x.to(type);
    CHECK(at::equal(all_reduce(y, ReduceOp::sum), y));
    CHECK(at::equal(all_gather(y), y));
    CHECK(at::equal(all_to_all(y), y));
    CHECK(at::equal(broadcast(y), y));
    CHECK(all_reduce_async(y, ReduceOp::sum).wait().device() == context.device());
  }
  CHECK(at::equal(reduce_scatter(x), x));
  at::Tensor busy = x;
  for (int i = 0; i < 100; ++i) busy = busy + 1;
  const auto handle = all_reduce_async(busy, ReduceOp::sum);
  CHECK(at::equal(handle.wait(), x + 100));
  CHECK(at::equal(all_reduce(x.cpu(), ReduceOp::sum), x.cpu()));
}
