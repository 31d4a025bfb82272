// Contexts: ranks as threads, who gets which context, and what a failing rank does to the others.
#include "acp/context.h"

#include <atomic>
#include <thread>

#include "acp/collectives.h"
#include "comm/cuda/cuda.h"
#include "comm/error.h"
#include "tests/api/toy.h"
#include "tests/catch.h"
#include "tests/support/temp_folder.h"

using namespace acp;
using namespace acp::test;

TEST_CASE("without launcher there is one rank, and one context at a time", "[api][context]") {
  const Environment backend("ACP_BACKEND", "local");
  CHECK_THROWS_WITH(current_context(), ContainsSubstring("acp::init()"));
  {
    Context context = init();
    CHECK(context.rank() == 0);
    CHECK(context.size() == 1);
    CHECK(context.local_rank() == 0);
    CHECK(context.local_size() == 1);
    CHECK(context.backend() == "local");
    CHECK(context.device() == at::Device(at::kCPU));
    CHECK(size() == 1);
    CHECK(&current_context() == &context);
    CHECK_THROWS_AS(init(), ConfigError);

    Context moved = std::move(context);
    CHECK(&current_context() == &moved);
    CHECK(all_reduce(torch::ones({2}), ReduceOp::sum).sum().item<float>() == 2);
  }
  CHECK_THROWS_AS(rank(), Error);
  CHECK(init().size() == 1);  // again, after the first has ended
}

TEST_CASE("wrong devices and backends are refused before anything is connected", "[api][context]") {
  const auto lacks_gpu = [] {
    try {
      cuda::require();
      return false;
    } catch (const ConfigError&) {
      return true;
    }
  };
  if (lacks_gpu()) {
    const Environment backend("ACP_BACKEND", "local");
    CHECK_THROWS_WITH(init(InitOptions().device("cuda")), ContainsSubstring("device \"cuda\": "));
    CHECK_THROWS_WITH(init(InitOptions().backend("nccl")), ContainsSubstring("the backend mpi or tcp"));
  }
  CHECK_THROWS_WITH(init(InitOptions().device("gpu")), ContainsSubstring("known: cpu, cuda"));
  CHECK_THROWS_WITH(init(InitOptions().backend("mpl")), ContainsSubstring("did you mean \"mpi\"?"));
  CHECK_THROWS_AS(current_context(), Error);
}

TEST_CASE("run_local: every rank has its own context, bound to its thread", "[api][context]") {
  for (const int n : {1, 2, 3, 4}) {
    std::atomic<int> seen{0};
    run_local(n, [&](Context& context) {
      require(&current_context() == &context, "the bound context");
      require(rank() == context.rank() && size() == n, "rank and size");
      require(local_rank() == rank() && local_size() == n, "all are on this host");
      seen += 1 << context.rank();
    });
    CHECK(seen == (1 << n) - 1);
  }
  CHECK_THROWS_AS(current_context(), Error);
  CHECK_THROWS_AS(run_local(0, [](Context&) {}), ConfigError);
}

TEST_CASE("run_local divides torch's threads and gives them back", "[api][context]") {
  const Environment omp("OMP_NUM_THREADS", nullptr);
  const int before = at::get_num_threads();
  run_local(2, [&](Context&) { require(at::get_num_threads() == std::max(1, before / 2), "threads"); });
  CHECK(at::get_num_threads() == before);
}

TEST_CASE("run_local: a rank's exception reaches the caller, the others do not wait for it",
          "[api][context]") {
  for (const int culprit : {0, 2}) {
    std::atomic<int> aborted{0};
    CHECK_THROWS_WITH(run_local(3,
                                [&](Context& context) {
                                  if (context.rank() == culprit) throw std::runtime_error("rank fell over");
                                  try {
                                    barrier();
                                  } catch (...) {
                                    ++aborted;
                                    throw;
                                  }
                                }),
                      "rank fell over");
    CHECK(aborted == 2);
  }
}

TEST_CASE("run_local: the cause counts, not what it does to the others", "[api][context]") {
  // Rank 1's channel goes down while the exception unwinds, so rank 0 may fail first; the cause is rank 1's.
  for (int i = 0; i < 10; ++i) {
    CHECK_THROWS_WITH(run_local(2,
                                [&](Context& context) {
                                  const auto channel = context.open_channel();
                                  const at::Tensor x = torch::ones({4});
                                  auto pending = channel->start(Collective::all_reduce(x));
                                  if (context.rank() == 1) throw ConfigError("the cause");
                                  pending.get();
                                  perform(*channel, Collective::all_reduce(x));
                                }),
                      "the cause");
  }
}

TEST_CASE("a context that an exception destroys aborts the others with a line that names it",
          "[api][context]") {
  std::atomic<bool> named{false};
  CHECK_THROWS(run_local(2, [&](Context& context) {
    if (context.rank() == 1) {
      try {
        const Context mine = std::move(context);
        throw std::logic_error("left");
      } catch (const std::logic_error&) {
      }
      return;
    }
    try {
      barrier();
    } catch (const PeerError& e) {
      named =
          e.peer() == 1 && std::string(e.what()).find("rank 1 ended with an exception") != std::string::npos;
      throw;
    }
  }));
  CHECK(named);
}

TEST_CASE("channels are independent, keep their traffic and outlive the context", "[api][context]") {
  run_local(2, [](Context& context) {
    const auto before = context.traffic().bytes_sent;
    auto channel = context.open_channel();
    const at::Tensor x = torch::ones({1000});
    const Handle pending = all_reduce_async(torch::ones({8}), ReduceOp::sum);
    perform(*channel, Collective::all_reduce(x));
    require(x[0].item<float>() == 2, "sum on the second channel");
    require(pending.wait()[0].item<float>() == 2, "sum on the first");
    const auto after = context.traffic().bytes_sent;
    require(after >= before + 4000, "a ring of two ranks sends the tensor once");
    channel.reset();
    require(context.traffic().bytes_sent >= after, "traffic of closed channels counts");

    auto late = context.open_channel();
    { const Context ended = std::move(context); }
    perform(*late, Collective::all_reduce(x));
    require(x[0].item<float>() == 4, "a channel outlives its context");
  });
}

TEST_CASE("asynchronous calls that nobody awaited end with the context", "[api][context]") {
  torch::Tensor result = torch::ones({2, 64});
  run_local(2, [&](Context& context) {
    for (int i = 0; i < 20; ++i) {
      static_cast<void>(all_reduce_async_(result[context.rank()], ReduceOp::average));
      static_cast<void>(all_gather_async(torch::ones({context.rank() + 1})));
    }
  });
  CHECK(result.eq(1).all().item<bool>());
}
