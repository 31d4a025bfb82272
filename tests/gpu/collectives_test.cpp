// Every collective of GPU tensors: by NCCL with one rank, and staged with several ranks on one GPU.
#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>

#include "comm/error.h"
#include "comm/local/local.h"
#include "comm/nccl/nccl.h"
#include "comm/staged/staged.h"
#include "comm/streams.h"
#include "comm/wire_communicator.h"
#include "tests/catch.h"
#include "tests/gpu/gpu.h"
#include "tests/support/collective_suite.h"
#include "tests/support/ranks.h"

using namespace acp;
using namespace acp::test;

namespace {

std::unique_ptr<Communicator> nccl_alone() {
  return nccl::connect(
      [] { return std::make_unique<WireCommunicator>(std::move(local::transports(1).front())); });
}

const at::Device gpu(at::kCUDA, 0);

}  // namespace

TEST_CASE("NCCL with one rank performs every collective", "[gpu][nccl]") {
  if (no_nccl()) return;
  const auto c = on_gpu(nccl_alone());
  run_collective_suite(*c);
  CHECK(c->backend() == "nccl");
}

TEST_CASE("NCCL takes tensors of the host too, and refuses what it cannot reduce", "[gpu][nccl]") {
  if (no_nccl()) return;
  const auto c = nccl_alone();
  run_collective_suite(*c);  // by the host's backend
  CHECK_THROWS_AS(c->perform(Collective::all_reduce(at::ones({4}, at::TensorOptions(gpu).dtype(at::kShort)))),
                  ConfigError);
  const at::Tensor x = at::ones({4}, gpu);
  c->perform(Collective::all_reduce(x, ReduceOp::average));
  CHECK(x.sum().item<float>() == 4);
}

TEST_CASE("a result of NCCL is there for the stream that asked for it", "[gpu][nccl]") {
  if (no_nccl()) return;
  const auto c = nccl_alone();
  const c10::StreamGuard other(side_stream(gpu));
  for (int i = 0; i < 50; ++i) {
    const at::Tensor x = at::full({1 << 20}, i, gpu);
    auto done = c->start(Collective::all_reduce(x));
    done.get();
    x.add_(1);
    REQUIRE(x.eq(i + 1).all().item<bool>());
  }
  CHECK(c->traffic().seconds >= 0);
}

TEST_CASE("after an abort every call of NCCL's channels throws", "[gpu][nccl]") {
  if (no_nccl()) return;
  const auto c = nccl_alone();
  const auto other = c->channel();
  other->perform(Collective::all_reduce(at::ones({4}, gpu)));
  c->abort(std::make_exception_ptr(CommunicationError("broken on purpose")));
  CHECK_THROWS_WITH(other->perform(Collective::all_reduce(at::ones({4}, gpu))),
                    ContainsSubstring("broken on purpose"));
}

TEST_CASE("every collective, staged, with several ranks on one GPU", "[gpu][staged]") {
  if (no_gpu()) return;
  const int ranks = GENERATE(1, 2, 3);
  on_ranks(ranks, [](Communicator& c) {
    const auto staged = on_gpu(stage(c.channel(), stream_copies()));
    run_collective_suite(*staged);
  });
}

TEST_CASE("a long tensor in many rounds between kernels of the same stream", "[gpu][staged]") {
  if (no_gpu()) return;
  on_ranks(2, [](Communicator& c) {
    const auto staged = stage(c.channel(), stream_copies(), {1 << 18});
    const c10::StreamGuard own(side_stream(gpu));
    const at::Tensor x = at::zeros({3'000'001}, gpu);
    for (int i = 1; i <= 10; ++i) {
      x.fill_(i * (c.rank() + 1));
      staged->perform(Collective::all_reduce(x));
      x.add_(1);
      if (!x.eq(3 * i + 1).all().item<bool>()) throw std::runtime_error("step " + std::to_string(i));
    }
  });
}
