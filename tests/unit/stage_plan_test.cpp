// How a collective is cut into rounds: every element of input and output once, whatever the sizes.
#include <ATen/ATen.h>

#include <vector>

#include "comm/staged/plan.h"
#include "tests/catch.h"

using namespace acp;

namespace {

// Pieces of all rounds: the device's tensor is covered once, the host's of each round, too, and no round is
// longer than asked for.
void require_cover(const StagePlan& plan, bool input, std::int64_t numel, std::int64_t longest) {
  std::vector<int> seen(static_cast<std::size_t>(numel), 0);
  for (std::int64_t k = 0; k < plan.rounds(); ++k) {
    const StageRound round = plan.round(k);
    const std::int64_t host_size = input ? round.in : round.out;
    std::vector<int> host(static_cast<std::size_t>(host_size), 0);
    CHECK(host_size <= longest);
    for (const StagePiece& p : input ? round.down : round.up) {
      for (std::int64_t i = 0; i < p.count; ++i) {
        ++seen.at(static_cast<std::size_t>(p.device + i));
        ++host.at(static_cast<std::size_t>(p.host + i));
      }
    }
    CHECK(host == std::vector<int>(static_cast<std::size_t>(host_size), 1));
  }
  CHECK(seen == std::vector<int>(static_cast<std::size_t>(numel), 1));
}

}  // namespace

TEST_CASE("rounds cover every element of a collective once", "[unit][staged]") {
  const int size = GENERATE(2, 3, 5), rank = size - 1;
  const std::int64_t numel = GENERATE(0, 1, 7, 64), elements = GENERATE(1, 10, 64, 1000);
  const std::int64_t longest = std::max<std::int64_t>(elements, size);
  const at::Tensor x = at::zeros({numel}), all = at::zeros({numel * size});

  const StagePlan reduce(Collective::all_reduce(x), rank, size, elements);
  require_cover(reduce, true, numel, longest);
  require_cover(reduce, false, numel, longest);
  const StagePlan scatter(Collective::reduce_scatter(all, x), rank, size, elements);
  require_cover(scatter, true, numel * size, longest);
  require_cover(scatter, false, numel, longest);
  const StagePlan gather(Collective::all_gather(x, all), rank, size, elements);
  require_cover(gather, true, numel, longest);
  require_cover(gather, false, numel * size, longest);
  const StagePlan exchange(Collective::all_to_all(all, all.clone()), rank, size, elements);
  require_cover(exchange, true, numel * size, longest);
  require_cover(exchange, false, numel * size, longest);

  std::vector<std::int64_t> counts, others;
  std::int64_t sum = 0, other_sum = 0;
  for (int r = 0; r < size; ++r) {
    counts.push_back(numel + r);
    others.push_back(r == rank ? numel + r : 3);
    sum += counts.back();
    other_sum += others.back();
  }
  const StagePlan gather_v(Collective::all_gather_v(at::zeros({counts.back()}), at::zeros({sum}), counts),
                           rank, size, elements);
  require_cover(gather_v, true, counts.back(), longest);
  require_cover(gather_v, false, sum, longest);
  const StagePlan exchange_v(
      Collective::all_to_all_v(at::zeros({sum}), counts, at::zeros({other_sum}), others), rank, size,
      elements);
  require_cover(exchange_v, true, sum, longest);
  require_cover(exchange_v, false, other_sum, longest);
  const StageRound beyond = exchange_v.round(exchange_v.rounds());
  CHECK(beyond.in_counts == std::vector<std::int64_t>(static_cast<std::size_t>(size), 0));
}

TEST_CASE("a broadcast goes down on its root alone and up on the others", "[unit][staged]") {
  const at::Tensor x = at::zeros({9});
  const StagePlan root(Collective::broadcast(x, 1), 1, 3, 4), other(Collective::broadcast(x, 1), 2, 3, 4);
  REQUIRE(root.rounds() == 3);
  CHECK((root.round(2).down == std::vector<StagePiece>{{8, 0, 1}}));
  CHECK(root.round(2).up.empty());
  CHECK(other.round(2).down.empty());
  CHECK((other.round(2).up == std::vector<StagePiece>{{8, 0, 1}}));
}

TEST_CASE("each half of a send_receive has the rounds of its own length", "[unit][staged]") {
  const StagePlan plan(Collective::send_receive(1, at::zeros({9}), 2, at::zeros({5})), 0, 3, 4);
  REQUIRE(plan.rounds() == 3);
  CHECK(plan.round(0).sends);
  CHECK(plan.round(1).receives);
  CHECK(plan.round(1).out == 1);
  CHECK(plan.round(2).sends);
  CHECK_FALSE(plan.round(2).receives);
  const StagePlan empty(Collective::send_receive(1, at::zeros({0}), -1, {}), 0, 3, 4);
  CHECK(empty.rounds() == 1);
  CHECK(empty.round(0).sends);  // its receiver waits for a message
}
