// Tensor collectives of the API: every function, blocking and asynchronous, on 1 to 4 ranks.
#include "acp/collectives.h"

#include <numeric>

#include "comm/error.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::test;

namespace {

void on_1_to_4(const std::function<void(int rank, int size)>& body) {
  for (const int n : {1, 2, 3, 4}) run_local(n, [&](Context& context) { body(context.rank(), n); });
}

void same(const torch::Tensor& actual, const torch::Tensor& expected, const std::string& what) {
  std::ostringstream text;
  text << what << ": " << actual << " instead of " << expected;
  require(actual.scalar_type() == expected.scalar_type() && actual.sizes() == expected.sizes(), text.str());
  require(torch::equal(actual, expected), text.str());
}

// Whole numbers, so that every type and order of adding gives the same.
torch::Tensor of_rank(int rank, std::vector<std::int64_t> shape, at::ScalarType type) {
  const std::int64_t n = c10::multiply_integers(shape);
  return (torch::arange(n) % 5 + rank + 1).view(shape).to(type);
}

torch::Tensor reduced(int size, const std::vector<std::int64_t>& shape, at::ScalarType type, ReduceOp op) {
  std::vector<torch::Tensor> all;
  for (int r = 0; r < size; ++r) all.push_back(of_rank(r, shape, at::kDouble));
  const torch::Tensor stacked = torch::stack(all);
  switch (op) {
    case ReduceOp::sum:
      return stacked.sum(0).to(type);
    case ReduceOp::average:
      return stacked.mean(0).to(type);
    case ReduceOp::min:
      return stacked.amin(0).to(type);
    case ReduceOp::max:
      return stacked.amax(0).to(type);
  }
  return {};
}

const std::vector<at::ScalarType> kReal{at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong,
                                        at::kInt,   at::kShort,  at::kChar, at::kByte};

}  // namespace

TEST_CASE("all_reduce: every type, operation and shape", "[api][collectives]") {
  on_1_to_4([](int rank, int size) {
    for (const auto type : kReal) {
      for (const auto op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max, ReduceOp::average}) {
        if (op == ReduceOp::average && !at::isFloatingType(type)) continue;
        for (const std::vector<std::int64_t>& shape :
             {std::vector<std::int64_t>{7, 3}, std::vector<std::int64_t>{},
              std::vector<std::int64_t>{0, 4}}) {
          const torch::Tensor x = of_rank(rank, shape, type), before = x.clone();
          const std::string what =
              std::string(at::toString(type)) + " op " + std::to_string(static_cast<int>(op));
          const torch::Tensor expected = reduced(size, shape, type, op);
          same(all_reduce(x, op), expected, what);
          same(x, before, what + ": the argument stays");
          same(all_reduce_async(x, op).wait(), expected, what + " async");
          torch::Tensor y = x.clone();
          all_reduce_(y, op);
          same(y, expected, what + " in place");
          y = x.clone();
          const Handle handle = all_reduce_async_(y, op);
          require(handle.wait().is_same(y), "in place returns its argument");
          same(y, expected, what + " async in place");
        }
      }
    }
  });
}

TEST_CASE("all_reduce averages by default, and by either algorithm", "[api][collectives]") {
  on_1_to_4([](int rank, int size) {
    const torch::Tensor x = torch::full({1000}, static_cast<float>(rank));
    const torch::Tensor mean = torch::full({1000}, static_cast<float>(size - 1) / 2);
    same(all_reduce(x), mean, "default");
    same(all_reduce(x, ReduceOp::average, Algorithm::ring), mean, "ring");
    same(all_reduce(x, ReduceOp::average, Algorithm::native), mean, "native");
  });
}

TEST_CASE("all_reduce: bool, complex, and what has no such reduction", "[api][collectives]") {
  run_local(3, [](Context& context) {
    const torch::Tensor mask = torch::arange(3) == context.rank();
    const torch::Tensor all = torch::ones({3}, at::kBool);
    same(all_reduce(mask, ReduceOp::sum), all, "or");
    same(all_reduce(mask, ReduceOp::max), all, "or");
    same(all_reduce(mask, ReduceOp::min), ~all, "and");
    torch::Tensor in_place = mask.clone();
    all_reduce_(in_place, ReduceOp::max);
    same(in_place, all, "or in place");

    const torch::Tensor z = torch::complex(torch::ones({2, 2}), torch::full({2, 2}, 1.0F * context.rank()));
    same(all_reduce(z, ReduceOp::sum), torch::complex(torch::full({2, 2}, 3.0F), torch::full({2, 2}, 3.0F)),
         "complex sum");
    same(all_reduce(z.conj(), ReduceOp::average),
         torch::complex(torch::ones({2, 2}), torch::full({2, 2}, -1.0F)), "conjugated average");

    const auto refuses = [](const torch::Tensor& x, ReduceOp op, const std::string& words) {
      const std::string message = message_of<ConfigError>([&] { all_reduce(x, op); });
      require(message.find(words) != std::string::npos, "\"" + message + "\" says " + words);
    };
    refuses(mask, ReduceOp::average, "average of Bool");
    refuses(torch::ones({2}, at::kLong), ReduceOp::average, "ReduceOp::sum");
    refuses(z, ReduceOp::max, "no maximum");
    refuses(torch::Tensor(), ReduceOp::sum, "undefined");
    refuses(torch::eye(2).to_sparse(), ReduceOp::sum, "dense");
    barrier();  // refusing has started nothing
  });
}

TEST_CASE("arguments may be non-contiguous, expanded or require a gradient", "[api][collectives]") {
  on_1_to_4([](int rank, int size) {
    const auto total = static_cast<float>(size * (size + 1) / 2);
    const torch::Tensor base = torch::arange(12, at::kFloat).view({3, 4}) * (rank + 1);
    const torch::Tensor expected = torch::arange(12, at::kFloat).view({3, 4}) * total;
    same(all_reduce(base.t(), ReduceOp::sum), expected.t(), "transposed");
    torch::Tensor view = base.t();
    all_reduce_(view, ReduceOp::sum);
    same(base, expected, "in place through a view");
    same(all_reduce(torch::full({1}, 1.0F).expand({5}), ReduceOp::sum), torch::full({5}, 1.0F * size),
         "expanded");

    torch::Tensor leaf = torch::full({2}, 1.0F * rank, torch::requires_grad());
    same(all_reduce(leaf, ReduceOp::max), torch::full({2}, size - 1.0F), "of a leaf");
    require(!all_reduce(leaf).requires_grad(), "results are outside the graph");
    const auto version = leaf._version();
    all_reduce_(leaf, ReduceOp::max);
    same(leaf.detach(), torch::full({2}, size - 1.0F), "leaf in place");
    require(leaf._version() > version, "autograd learns of the change");
  });
}

TEST_CASE("all_gather concatenates along dimension 0, in which ranks may differ", "[api][collectives]") {
  on_1_to_4([](int rank, int size) {
    for (const auto type : {at::kFloat, at::kBool, at::kHalf, at::kShort, at::kComplexDouble}) {
      std::vector<torch::Tensor> all;
      for (int r = 0; r < size; ++r) all.push_back(of_rank(r, {r, 3}, at::kFloat).to(type));  // rank 0: empty
      const torch::Tensor mine = all[static_cast<std::size_t>(rank)], expected = torch::cat(all);
      same(all_gather(mine), expected, "all_gather");
      same(all_gather_async(mine).wait(), expected, "all_gather_async");
      const torch::Tensor wide = mine.t().contiguous().t();
      same(all_gather(wide), expected, "non-contiguous");
    }
    same(all_gather(torch::tensor(rank)), torch::arange(size, at::kLong), "0-dimensional");
    same(all_gather(torch::empty({0, 2, 3})), torch::empty({0, 2, 3}), "all empty");
    same(all_gather(torch::full({1, 0, 2}, 1.0F)), torch::empty({size, 0, 2}), "rows without elements");
  });
}

TEST_CASE("reduce_scatter deals out rows, the first ranks getting one more", "[api][collectives]") {
  on_1_to_4([](int rank, int size) {
    for (const std::int64_t rows : {0, 1, 4, 7, 12}) {
      for (const auto type : {at::kFloat, at::kHalf, at::kInt, at::kShort, at::kComplexFloat}) {
        const auto op = at::isFloatingType(type) ? ReduceOp::average : ReduceOp::sum;
        const torch::Tensor x = of_rank(rank, {rows, 2}, at::kFloat).to(type);
        const torch::Tensor all = reduced(size, {rows, 2}, at::kFloat, op).to(type);
        const auto begin = [&](std::int64_t r) { return r * (rows / size) + std::min(r, rows % size); };
        const torch::Tensor expected = all.narrow(0, begin(rank), begin(rank + 1) - begin(rank));
        same(reduce_scatter(x, op), expected, "reduce_scatter");
        same(reduce_scatter_async(x, op).wait(), expected, "reduce_scatter_async");
      }
    }
    require(!message_of<ConfigError>([] { reduce_scatter(torch::tensor(1.0F)); }).empty(), "0-dimensional");
  });
}

TEST_CASE("all_to_all deals out rows equally or by splits", "[api][collectives]") {
  on_1_to_4([](int rank, int size) {
    // Row values say where they come from and go to.
    const auto row = [](int from, int to) { return 10 * from + to; };
    torch::Tensor equal = torch::empty({2 * size, 3}), expected = torch::empty({2 * size, 3});
    for (int r = 0; r < size; ++r) {
      equal.narrow(0, 2 * r, 2).fill_(row(rank, r));
      expected.narrow(0, 2 * r, 2).fill_(row(r, rank));
    }
    same(all_to_all(equal), expected, "equal");
    same(all_to_all_async(equal).wait(), expected, "equal async");

    // Rank r sends (r + q) % size rows to rank q.
    std::vector<std::int64_t> splits;
    std::vector<torch::Tensor> send, receive;
    for (int r = 0; r < size; ++r) {
      splits.push_back((rank + r) % size);
      send.push_back(torch::full({splits.back(), 2}, row(rank, r), at::kLong));
      receive.push_back(torch::full({(r + rank) % size, 2}, row(r, rank), at::kLong));
    }
    same(all_to_all(torch::cat(send), splits), torch::cat(receive), "splits");
    same(all_to_all_async(torch::cat(send), splits).wait(), torch::cat(receive), "splits async");
    std::vector<std::int64_t> received;
    for (const auto& part : receive) received.push_back(part.size(0));
    same(all_to_all(torch::tensor(splits)), torch::tensor(received), "splits of the others");

    const auto refuses = [](const torch::Tensor& x, const std::vector<std::int64_t>& s) {
      return !message_of<ConfigError>([&] { all_to_all(x, s); }).empty();
    };
    require(refuses(torch::ones({}), {}), "0-dimensional");
    require(refuses(torch::ones({size}), std::vector<std::int64_t>(static_cast<std::size_t>(size), 2)),
            "sum");
    require(refuses(torch::ones({size}), std::vector<std::int64_t>(static_cast<std::size_t>(size) + 1, 1)),
            "number");
    if (size > 1) require(refuses(torch::ones({size + 1}), {}), "not divisible");
  });
}

TEST_CASE("broadcast: any root, any type, new or in place", "[api][collectives]") {
  on_1_to_4([](int rank, int size) {
    for (int root = 0; root < size; ++root) {
      for (const auto type : {at::kFloat, at::kBool, at::kBFloat16, at::kLong, at::kComplexDouble}) {
        const torch::Tensor x = of_rank(rank, {3, 5}, at::kFloat).to(type), before = x.clone();
        const torch::Tensor expected = of_rank(root, {3, 5}, at::kFloat).to(type);
        same(broadcast(x, root), expected, "broadcast");
        same(broadcast_async(x, root).wait(), expected, "broadcast_async");
        same(x, before, "the argument stays");
        torch::Tensor y = x.clone();
        broadcast_(y, root);
        same(y, expected, "broadcast_");
        torch::Tensor t = x.clone().t();
        require(broadcast_async_(t, root).wait().is_same(t), "in place returns its argument");
        same(t, expected.t(), "broadcast_async_ of a view");
      }
      same(broadcast(torch::tensor(rank), root), torch::tensor(root), "0-dimensional");
      same(broadcast(torch::empty({0}), root), torch::empty({0}), "empty");
    }
    require(!message_of<ConfigError>([&] { broadcast(torch::ones({1}), size); }).empty(), "root too large");
    require(!message_of<ConfigError>([&] { broadcast(torch::ones({1}), -1); }).empty(), "root negative");
  });
}

TEST_CASE("barrier holds every rank until the last has come", "[api][collectives]") {
  on_1_to_4([](int, int size) {
    static std::atomic<int> arrived;
    if (rank() == 0) arrived = 0;
    barrier();
    ++arrived;
    if (rank() % 2 == 0) {
      barrier();
    } else {
      require(!barrier_async().wait().defined(), "a barrier has no result");
    }
    require(arrived == size, "all have arrived");
    barrier();
  });
}

TEST_CASE("many asynchronous calls keep the order of the calls, blocking ones too", "[api][collectives]") {
  on_1_to_4([](int rank, int size) {
    std::vector<Handle> handles;
    for (int i = 0; i < 30; ++i) {
      handles.push_back(all_reduce_async(torch::full({i}, 1.0F * i), ReduceOp::sum));
      handles.push_back(all_gather_async(torch::full({rank}, i)));
      if (i % 7 == 0)
        same(broadcast(torch::full({2}, rank), size - 1), torch::full({2}, size - 1), "between");
    }
    for (int i = 29; i >= 0; --i) {  // waited for in another order
      const auto k = static_cast<std::size_t>(2 * i);
      same(handles[k].wait(), torch::full({i}, 1.0F * i * size), "all_reduce");
      same(handles[k + 1].wait(), torch::full({size * (size - 1) / 2}, i), "all_gather");
      require(handles[k].ready(), "ready after wait");
      same(handles[k].wait(), torch::full({i}, 1.0F * i * size), "waited for again");
    }
  });
}

TEST_CASE("a handle keeps its tensors alive; dropped unawaited it lets the operation go on",
          "[api][collectives]") {
  run_local(2, [](Context& context) {
    torch::Tensor kept = torch::full({1000}, 1.0F * context.rank());
    {
      std::vector<Handle> dropped;
      for (int i = 0; i < 5; ++i) dropped.push_back(all_reduce_async(torch::full({1000}, 1.0F * i)));
      dropped.push_back(all_reduce_async_(kept, ReduceOp::sum));
    }
    const Handle temporary = all_gather_async(torch::full({3}, context.rank()));
    same(temporary.wait(), torch::tensor({0, 0, 0, 1, 1, 1}), "of a temporary");
    same(kept, torch::full({1000}, 1.0F), "dropped, but done before the next");
  });
}

TEST_CASE("ranks that disagree about the shape are told on every rank", "[api][collectives]") {
  const auto messages = [](const std::function<void(int)>& call) {
    std::vector<std::string> all(3);
    run_local(3, [&](Context& context) {
      all[static_cast<std::size_t>(context.rank())] = message_of<ConfigError>([&] { call(context.rank()); });
      barrier();  // the channel is as good as before
    });
    return all;
  };
  for (const auto& text : messages([](int rank) { all_gather(torch::ones({2, rank == 1 ? 4 : 3})); })) {
    CHECK(text ==
          "all_gather: rank 0 gives Float [*, 3] and rank 1 Float [*, 4]; only dimension 0 (*) may differ");
  }
  for (const auto& text : messages([](int rank) {
         all_gather_async(torch::ones({2}, rank == 2 ? at::kDouble : at::kFloat)).wait();
       })) {
    CHECK(text ==
          "all_gather: rank 0 gives Float [*] and rank 2 Double [*]; only dimension 0 (*) may differ");
  }
  for (const auto& text : messages([](int rank) { all_to_all(torch::ones({3, rank + 1})); })) {
    CHECK(text ==
          "all_to_all: rank 0 gives Float [*, 1] and rank 1 Float [*, 2]; only dimension 0 (*) may differ");
  }
}

TEST_CASE("a failed operation is reported by wait() alone, on every rank", "[api][collectives]") {
  std::atomic<int> failed{0};
  CHECK_THROWS_AS(run_local(2,
                            [&](Context& context) {
                              const Handle handle = all_reduce_async(torch::ones({context.rank() + 4}));
                              try {
                                handle.wait();
                              } catch (const CommunicationError&) {
                                ++failed;
                                throw;
                              }
                            }),
                  CommunicationError);
  CHECK(failed == 2);
}
