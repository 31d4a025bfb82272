// Every collective over ranks as threads, in one piece and in many segments.
#include <ATen/ATen.h>

#include "tests/catch.h"
#include "tests/support/collective_suite.h"
#include "tests/support/ranks.h"

using namespace acp;
using namespace acp::test;

TEST_CASE("every collective, type, reduction, size and algorithm", "[ranks][collectives]") {
  const int ranks = GENERATE(from_range(world_sizes({1, 2, 3, 4, 5, 8}, 4)));
  on_ranks(ranks, run_collective_suite);
}

TEST_CASE("every collective in many short segments", "[ranks][collectives]") {
  const int ranks = GENERATE(2, 3, 4, 7);
  const std::size_t segment = GENERATE(1U, 24U, 100U);
  on_ranks(ranks, Tuning{segment, 0}, [](Communicator& c) {
    check_all(c, Algorithm::ring, {0, 1, 3, 17, 250});
    check_all(c, Algorithm::automatic, {5, 250});
    for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
      check_bits(c, Algorithm::ring, type, 501);
    }
  });
}

TEST_CASE("recursive doubling on any number of ranks", "[ranks][collectives]") {
  const int ranks = GENERATE(2, 3, 4, 5, 6, 7, 8, 9);
  on_ranks(ranks, Tuning{64, 1 << 20}, [](Communicator& c) {
    check_all(c, Algorithm::automatic, {0, 1, 5, 333});
    for (const at::ScalarType type : {at::kFloat, at::kDouble})
      check_bits(c, Algorithm::automatic, type, 501);
  });
}

TEST_CASE("random collectives on several channels with random delays", "[ranks][collectives]") {
  const int ranks = GENERATE(2, 3, 4);
  const auto seed = static_cast<std::uint64_t>(GENERATE(range(1, 6)));
  on_ranks(ranks, Tuning{256, 512}, [&](Communicator& c) { run_random_suite(c, seed, 120); });
}

TEST_CASE("an average in half precision does not overflow and rounds once", "[ranks][collectives]") {
  on_ranks(4, [](Communicator& c) {
    const at::Tensor large = at::full({7}, 60000, at::kHalf);
    perform(c, Collective::all_reduce(large, ReduceOp::average));
    if (!at::equal(large, at::full({7}, 60000, at::kHalf))) throw std::runtime_error("the sum overflowed");
    // 2048 + 1 + 1 + 1: adding in half precision would lose every 1.
    const at::Tensor small = at::full({7}, c.rank() == 0 ? 2048 : 1, at::kHalf);
    perform(c, Collective::all_reduce(small));
    if (!at::equal(small, at::full({7}, 2052, at::kHalf))) throw std::runtime_error("rounded more than once");
  });
}

TEST_CASE("a NaN and signed zeros give the same bits on all ranks", "[ranks][collectives]") {
  const std::size_t small = GENERATE(0U, 4096U);
  const ReduceOp op = GENERATE(ReduceOp::sum, ReduceOp::min, ReduceOp::max);
  on_ranks(3, Tuning{16, small}, [&](Communicator& c) {
    const at::Tensor x = at::tensor({0.0F, -0.0F, 1.0F, 2.0F, -0.0F, 0.0F, 5.0F});
    if (c.rank() == 1) {
      x[2] = std::numeric_limits<float>::quiet_NaN();
      x[3] = -std::numeric_limits<float>::quiet_NaN();
      x[0] = -0.0F;
    }
    perform(c, Collective::all_reduce(x, op));
    const at::Tensor all = at::empty({3, 7}, at::kInt);
    perform(c, Collective::all_gather(x.view(at::kInt), all));
    if (!at::equal(all[0], all[1]) || !at::equal(all[0], all[2])) throw std::runtime_error("bits differ");
    if (!x[2].isnan().item<bool>() || !x[3].isnan().item<bool>())
      throw std::runtime_error("the NaN was lost");
  });
}

TEST_CASE("gathering into the slot that the input already is", "[ranks][collectives]") {
  on_ranks(3, [](Communicator& c) {
    const at::Tensor all = at::full({6}, -1);
    all.narrow(0, 2 * c.rank(), 2).fill_(c.rank());
    perform(c, Collective::all_gather(all.narrow(0, 2 * c.rank(), 2), all));
    if (!at::equal(all, at::tensor({0, 0, 1, 1, 2, 2}).to(all.scalar_type())))
      throw std::runtime_error("wrong");
  });
}

TEST_CASE("bytes sent are those of the algorithms' page", "[ranks][collectives]") {
  const int ranks = GENERATE(1, 2, 4);
  on_ranks(ranks, [&](Communicator& c) {
    const auto sent = [&](Collective op, Algorithm algorithm) {
      const auto before = c.traffic().bytes_sent;
      op.algorithm = algorithm;
      perform(c, std::move(op));
      return static_cast<int>(c.traffic().bytes_sent - before);
    };
    const auto expect = [](int got, int expected) {
      if (got != expected)
        throw std::runtime_error(std::to_string(got) + " bytes, not " + std::to_string(expected));
    };
    const int n = ranks, numel = 4000, bytes = numel * 4;
    expect(sent(Collective::all_reduce(at::zeros({numel})), Algorithm::ring), 2 * bytes / n * (n - 1));
    expect(sent(Collective::all_reduce(at::zeros({2 * numel}, at::kHalf)), Algorithm::ring),
           2 * bytes / n * (n - 1));
    expect(sent(Collective::reduce_scatter(at::zeros({numel}), at::zeros({numel / n})), Algorithm::ring),
           bytes / n * (n - 1));
    expect(sent(Collective::all_gather(at::zeros({numel}), at::zeros({numel * n})), Algorithm::ring),
           bytes * (n - 1));
    expect(sent(Collective::all_to_all(at::zeros({numel}), at::zeros({numel})), Algorithm::ring),
           bytes / n * (n - 1));
    const int doublings = n == 1 ? 0 : n == 2 ? 1 : 2;
    expect(sent(Collective::all_reduce(at::zeros({10})), Algorithm::automatic), doublings * 40);
    expect(sent(Collective::barrier(), Algorithm::ring), 0);
    if (c.traffic().estimated) throw std::runtime_error("nothing was estimated");
  });
}
