// Values are small whole numbers derived from rank and index, so every sum is exact in every type.
#include "tests/support/collective_suite.h"

#include <ATen/ATen.h>

#include <stdexcept>
#include <string>

#include "comm/algorithms/algorithms.h"
#include "comm/error.h"

namespace acp::test {

namespace {

void require(bool ok, const std::string& what) {
  if (!ok) throw std::runtime_error("check failed: " + what);
}

// Element i of rank r: 0 .. 4.
at::Tensor values(int rank, std::int64_t n, at::ScalarType type, std::int64_t first = 0) {
  const at::Tensor i = at::arange(first, first + n, at::kLong);
  return ((i * 7 + i.floor_divide(3) * rank + rank) % 5).to(type);
}

at::Tensor reduced(int ranks, std::int64_t n, at::ScalarType type, ReduceOp op) {
  at::Tensor result = values(0, n, at::kDouble);
  for (int r = 1; r < ranks; ++r) {
    const at::Tensor x = values(r, n, at::kDouble);
    result = op == ReduceOp::min   ? at::minimum(result, x)
             : op == ReduceOp::max ? at::maximum(result, x)
                                   : result + x;
  }
  if (op == ReduceOp::average) result = result / ranks;
  return result.to(type);
}

void reductions(Communicator& c, Algorithm algorithm, at::ScalarType type, ReduceOp op, std::int64_t n) {
  const std::string what = std::string(at::toString(type)) + " op " + std::to_string(static_cast<int>(op)) +
                           " of " + std::to_string(n) + ", algorithm " +
                           std::to_string(static_cast<int>(algorithm));
  at::Tensor x = values(c.rank(), n, type);
  Collective sum = Collective::all_reduce(x, op);
  sum.algorithm = algorithm;
  perform(c, std::move(sum));
  const at::Tensor expected = reduced(c.size(), n, type, op);
  const bool inexact = op == ReduceOp::average;
  require(inexact ? at::allclose(x, expected, 1e-6, 1e-6) : at::equal(x, expected), "all_reduce " + what);

  const std::int64_t all = n * c.size();
  const at::Tensor whole = values(c.rank(), all, type);
  const at::Tensor untouched = whole.clone();
  at::Tensor mine = at::empty({n}, whole.options());
  Collective scatter = Collective::reduce_scatter(whole, mine, op);
  scatter.algorithm = algorithm;
  perform(c, std::move(scatter));
  const at::Tensor piece = reduced(c.size(), all, type, op).narrow(0, n * c.rank(), n);
  require(inexact ? at::allclose(mine, piece, 1e-6, 1e-6) : at::equal(mine, piece), "reduce_scatter " + what);
  require(at::equal(whole, untouched), "reduce_scatter leaves its input alone, " + what);
}

void movements(Communicator& c, Algorithm algorithm, at::ScalarType type, std::int64_t n) {
  const int ranks = c.size();
  const std::string what = std::string(at::toString(type)) + " of " + std::to_string(n);
  const auto go = [&](Collective op) {
    op.algorithm = algorithm;
    perform(c, std::move(op));
  };
  std::vector<at::Tensor> each;
  std::vector<at::Tensor> ragged;
  std::vector<std::int64_t> counts;
  std::int64_t total = 0;
  for (int r = 0; r < ranks; ++r) {
    each.push_back(values(r, n, type));
    counts.push_back(r % 2 == 0 ? n + r : 0);
    ragged.push_back(values(r, counts.back(), type));
    total += counts.back();
  }
  const at::TensorOptions options = at::TensorOptions().dtype(type);
  at::Tensor all = at::empty({n * ranks}, options);
  go(Collective::all_gather(values(c.rank(), n, type), all));
  require(at::equal(all, at::cat(each)), "all_gather " + what);

  all = at::empty({total}, options);
  go(Collective::all_gather_v(ragged[static_cast<std::size_t>(c.rank())], all, counts));
  require(at::equal(all, at::cat(ragged)), "all_gather_v " + what);

  std::vector<at::Tensor> arriving;
  for (int r = 0; r < ranks; ++r) arriving.push_back(values(r, n, type, n * c.rank()));
  at::Tensor theirs = at::empty({n * ranks}, options);
  go(Collective::all_to_all(values(c.rank(), n * ranks, type), theirs));
  require(at::equal(theirs, at::cat(arriving)), "all_to_all " + what);

  // Rank r sends n + d elements to rank d, and nothing to itself if it is odd.
  const auto amount = [&](int from, int to) { return from == to && from % 2 == 1 ? 0 : n + to; };
  std::vector<std::int64_t> out_counts;
  std::vector<std::int64_t> in_counts;
  std::vector<at::Tensor> expected;
  std::int64_t in_total = 0;
  for (int r = 0; r < ranks; ++r) {
    std::int64_t before = 0;
    for (int d = 0; d < c.rank(); ++d) before += amount(r, d);
    out_counts.push_back(amount(r, c.rank()));
    expected.push_back(values(r, out_counts.back(), type, before));
    in_counts.push_back(amount(c.rank(), r));
    in_total += in_counts.back();
  }
  at::Tensor received = at::empty_like(at::cat(expected));
  go(Collective::all_to_all_v(values(c.rank(), in_total, type), in_counts, received, out_counts));
  require(at::equal(received, at::cat(expected)), "all_to_all_v " + what);

  for (int root = 0; root < ranks; ++root) {
    at::Tensor x = values(c.rank(), n, type);
    go(Collective::broadcast(x, root));
    require(at::equal(x, values(root, n, type)), "broadcast " + what);
  }
  if (ranks > 1) {
    at::Tensor from_left = at::empty({n}, options);
    const int left = (c.rank() + ranks - 1) % ranks;
    go(Collective::send_receive((c.rank() + 1) % ranks, values(c.rank(), n, type), left, from_left));
    require(at::equal(from_left, values(left, n, type)), "send_receive " + what);
  }
}

// Sums of numbers that do round: all ranks must still have the same bits, in every run.
void bit_identity(Communicator& c, Algorithm algorithm, at::ScalarType type) {
  auto generator = at::detail::createCPUGenerator(static_cast<std::uint64_t>(c.rank() + 1));
  const at::Tensor start = at::empty({10007}, at::kFloat).normal_(0, 1, generator).to(type);
  at::Tensor first;
  for (int again = 0; again < 2; ++again) {
    at::Tensor x = start.clone();
    Collective op = Collective::all_reduce(x, ReduceOp::average);
    op.algorithm = algorithm;
    perform(c, std::move(op));
    at::Tensor all = at::empty({x.numel() * c.size()}, x.options());
    perform(c, Collective::all_gather(x, all));
    const at::Tensor rows = all.view({c.size(), -1});
    for (int r = 1; r < c.size(); ++r) require(at::equal(rows[r], rows[0]), "ranks are bit-identical");
    if (again > 0) require(at::equal(x, first), "runs are bit-identical");
    first = x;
  }
}

}  // namespace

namespace {

void run(Communicator& c, Algorithm algorithm, std::initializer_list<std::int64_t> sizes) {
  for (const std::int64_t n : sizes) {
    for (const auto type : {at::kFloat, at::kDouble, at::kInt, at::kLong, at::kByte}) {
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max}) {
        if (op == ReduceOp::sum || n < 100) reductions(c, algorithm, type, op, n);
      }
    }
    for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
      reductions(c, algorithm, type, ReduceOp::average, n);
    }
    for (const auto type : {at::kHalf, at::kBFloat16}) reductions(c, algorithm, type, ReduceOp::sum, n);
    for (const auto type : {at::kFloat, at::kHalf}) movements(c, algorithm, type, n);
  }
  Collective wait = Collective::barrier();
  wait.algorithm = algorithm;
  perform(c, std::move(wait));
}

}  // namespace

void run_collective_suite(Communicator& c) {
  run(c, Algorithm::ring, {0, 1, 3, 17, 40001});
  if (c.backend() != "local") {  // local has no collectives of its own
    run(c, Algorithm::native, {0, 1, 3, 17, 40001});
    run(c, Algorithm::automatic, {17, 40001});
  }
  for (const Algorithm algorithm : {Algorithm::ring, Algorithm::native}) {
    for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16})
      bit_identity(c, algorithm, type);
  }
}

void run_short_suite(Communicator& c) {
  run(c, Algorithm::ring, {2, 5, 90});
}

void run_channel_suite(Communicator& c) {
  const auto first = c.channel();
  const auto second = c.channel();
  for (int step = 0; step < 20; ++step) {
    at::Tensor a = at::full({100 + step}, c.rank() + 1.0F);
    at::Tensor b = at::full({100 + step}, 10.0F * static_cast<float>(c.rank() + 1));
    std::future<void> one;
    std::future<void> two;
    if ((c.rank() + step) % 2 == 0) {
      one = first->start(Collective::all_reduce(a));
      two = second->start(Collective::all_reduce(b));
    } else {
      two = second->start(Collective::all_reduce(b));
      one = first->start(Collective::all_reduce(a));
    }
    one.get();
    two.get();
    const float sum = static_cast<float>(c.size() * (c.size() + 1)) / 2;
    require(at::equal(a, at::full_like(a, sum)), "first channel");
    require(at::equal(b, at::full_like(b, 10 * sum)), "second channel");
  }
}

}  // namespace acp::test
