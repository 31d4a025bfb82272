// Collectives as data: what one rank alone refuses, how they are described, their tags, and failures as
// values.
#include "comm/collective.h"

#include <ATen/ATen.h>

#include <set>

#include "comm/algorithms/algorithms.h"
#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/failure.h"
#include "comm/nccl/nccl.h"
#include "tests/catch.h"
#include "tests/support/timeout.h"

using namespace acp;
using acp::test::Timeout;

TEST_CASE("one rank alone sees what is wrong with its arguments", "[unit][collective]") {
  const at::Tensor x = at::zeros({6});
  CHECK_THROWS_WITH(Collective::all_reduce({}), ContainsSubstring("all_reduce: x is an undefined tensor"));
  CHECK_THROWS_WITH(Collective::all_reduce(at::zeros({3, 4}).t()), ContainsSubstring("not contiguous"));
  CHECK_THROWS_WITH(Collective::all_reduce(x.to_sparse()), ContainsSubstring("sparse"));
  CHECK_THROWS_WITH(Collective::all_gather(at::zeros({3}), x.to(at::kInt)),
                    ContainsSubstring("mine is Float, all is Int; they must have one dtype"));
  CHECK_THROWS_WITH(Collective::all_gather(at::zeros({4}), x),
                    ContainsSubstring("no whole number of pieces of 4"));
  CHECK_THROWS_WITH(Collective::all_gather(at::zeros({0}), x),
                    ContainsSubstring("no whole number of pieces of 0"));
  CHECK_THROWS_WITH(Collective::reduce_scatter(x, at::zeros({5})),
                    ContainsSubstring("no whole number of pieces of 5"));
  CHECK_THROWS_WITH(Collective::all_gather_v(at::zeros({3}), x, {3, 2}),
                    ContainsSubstring("all has 6 elements, its counts add up to 5"));
  CHECK_THROWS_WITH(Collective::all_gather_v(at::zeros({3}), x, {7, -1}),
                    ContainsSubstring("the count of rank 1 is negative"));
  CHECK_THROWS_WITH(Collective::all_to_all(at::zeros({4}), x),
                    ContainsSubstring("mine has 4 elements, theirs 6"));
  CHECK_THROWS_WITH(Collective::all_to_all_v(x, {2, 4}, at::zeros({6}), {6}),
                    ContainsSubstring("2 counts for mine, 1 for theirs"));
  CHECK_THROWS_WITH(Collective::broadcast(x, -1), ContainsSubstring("root is -1"));
  CHECK_THROWS_WITH(Collective::send_receive(-2, x, 0, x), ContainsSubstring("a rank is negative"));
  CHECK_THROWS_WITH(Collective::send_receive(1, {}, -1, {}),
                    ContainsSubstring("mine is an undefined tensor"));
  CHECK_NOTHROW(Collective::send_receive(-1, {}, 1, x));
  CHECK_NOTHROW(Collective::all_gather(at::zeros({0}), at::zeros({0})));
  CHECK_THROWS_AS(Collective::all_reduce({}), ConfigError);
}

TEST_CASE("a collective is described with a size for people", "[unit][collective]") {
  CHECK(describe(Collective::all_reduce(at::zeros({1 << 20}))) == "all_reduce of 4 MiB float32");
  CHECK(describe(Collective::all_reduce(at::zeros({0}, at::kHalf))) == "all_reduce of 0 B float16");
  CHECK(describe(Collective::all_reduce(at::zeros({100000}, at::kBFloat16))) ==
        "all_reduce of 195.3 KiB bfloat16");
  CHECK(describe(Collective::broadcast(at::zeros({3}, at::kLong), 2)) ==
        "broadcast of 24 B int64 from rank 2");
  CHECK(describe(Collective::send_receive(1, at::zeros({3}, at::kByte), 2, at::zeros({5}, at::kByte))) ==
        "send_receive of 3 B uint8 to rank 1 from rank 2");
  CHECK(describe(Collective::barrier()) == "barrier");
  Collective op = Collective::all_gather(at::zeros({2}, at::kDouble), at::zeros({4}, at::kDouble));
  op.label = "step 120, bucket 2: layer3.weight";
  CHECK(describe(op) == "all_gather of 16 B float64 (step 120, bucket 2: layer3.weight)");
}

TEST_CASE("tags fit into 15 bits and tell operations apart", "[unit][collective]") {
  std::set<int> tags;
  int count = 0;
  const auto add = [&](const Collective& op) {
    CHECK(tag_of(op) >= 0);
    CHECK(tag_of(op) <= 32767);
    tags.insert(tag_of(op));
    ++count;
  };
  for (const ReduceOp op : {ReduceOp::sum, ReduceOp::average, ReduceOp::min, ReduceOp::max}) {
    for (const int n : {1, 2, 3, 1000}) {
      for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kHalf}) {
        add(Collective::all_reduce(at::zeros({n}, type), op));
      }
    }
  }
  for (const int root : {0, 1, 2}) add(Collective::broadcast(at::zeros({5}), root));
  add(Collective::barrier());
  add(Collective::all_gather_v(at::zeros({2}), at::zeros({5}), {2, 3}));
  add(Collective::all_gather_v(at::zeros({2}), at::zeros({5}), {3, 2}));
  CHECK(static_cast<int>(tags.size()) >= count - 2);  // a chance meeting is allowed

  // What may differ between the ranks of one operation does not change its tag.
  const at::Tensor x = at::zeros({6}), y = at::zeros({4});
  CHECK(tag_of(Collective::all_to_all_v(x, {2, 4}, y, {2, 2})) ==
        tag_of(Collective::all_to_all_v(y, {2, 2}, x, {4, 2})));
  CHECK(tag_of(Collective::send_receive(1, x, -1, {})) == tag_of(Collective::send_receive(-1, {}, 0, x)));
  CHECK(tag_of(Collective::all_gather_v(at::zeros({2}), at::zeros({5}), {2, 3})) ==
        tag_of(Collective::all_gather_v(at::zeros({3}), at::zeros({5}), {2, 3})));
}

TEST_CASE("the deadline is a positive number of seconds", "[unit][deadline]") {
  using std::chrono::milliseconds;
  {
    const Timeout timeout("2.5");
    CHECK(wait_timeout() == milliseconds(2500));
  }
  {
    const Timeout timeout("");
    CHECK(wait_timeout() == milliseconds(300000));
  }
  for (const char* text : {"0", "-1", "ten", "5s", "nan", "inf"}) {
    const Timeout timeout(text);
    CHECK_THROWS_WITH(wait_timeout(), ContainsSubstring("ACP_TIMEOUT is \"" + std::string(text) + "\""));
  }
}

TEST_CASE("a failure keeps class, peer and text", "[unit][failure]") {
  const Failure peer = Failure::of(std::make_exception_ptr(PeerError(3, "peer 3 is gone")));
  try {
    peer.raise();
  } catch (const PeerError& e) {
    CHECK(e.peer() == 3);
    CHECK(std::string(e.what()) == "peer 3 is gone");
  }
  CHECK_THROWS_AS(Failure::of(std::make_exception_ptr(ConfigError("x"))).raise(), ConfigError);
  CHECK_THROWS_AS(Failure::of(std::make_exception_ptr(DataError("x"))).raise(), DataError);
  CHECK_THROWS_AS(Failure::of(std::make_exception_ptr(std::runtime_error("x"))).raise(), CommunicationError);
  CHECK(Failure::of(std::make_exception_ptr(5)).text == "an exception of an unknown class");
  CHECK(Failure::of(nullptr).text == "aborted without a reason");
  CHECK(Failure::of(std::make_exception_ptr(std::runtime_error("two\nlines\n"))).text == "two lines");

  std::exception_ptr torch;
  try {
    at::zeros({2}) + at::zeros({3});
  } catch (...) {
    torch = std::current_exception();
  }
  const std::string text = Failure::of(torch).text;
  CHECK_THAT(text, ContainsSubstring("must match the size"));
  CHECK(text.find("frame #") == std::string::npos);  // no backtrace
  CHECK(text.find('\n') == std::string::npos);
}

TEST_CASE("where it happened is said once", "[unit][failure]") {
  const Collective op = Collective::barrier();
  const Failure failure = during({Failure::Kind::peer, 3, "peer 3 closed the connection"}, "tcp", 1, op);
  CHECK(failure.text == "[tcp] rank 1: peer 3 closed the connection during barrier");
  CHECK(failure.peer == 3);
  CHECK(during(failure, "tcp", 1, op).text == failure.text);

  const Failure stopped = stopped_by(1, failure.text);
  CHECK(stopped.text == "stopped by rank 1 (peer 3 closed the connection during barrier)");
  CHECK(stopped.kind == Failure::Kind::peer);
  CHECK(stopped.peer == 1);
  CHECK(stopped_by(2, failure.text).text == "stopped by rank 2 (" + failure.text + ")");
}

TEST_CASE("where NCCL cannot work its backend says so", "[unit][collective]") {
  try {
    nccl::require();
    return;  // it can: tests/gpu
  } catch (const ConfigError& error) {
    CHECK_THAT(error.what(), ContainsSubstring("NCCL") || ContainsSubstring("backend \"nccl\" needs a GPU"));
    CHECK_THAT(error.what(), ContainsSubstring("the backend mpi or tcp"));
  }
  bool asked = false;
  const auto bootstrap = [&]() -> std::unique_ptr<Communicator> {
    asked = true;
    return nullptr;
  };
  CHECK_THROWS_AS(nccl::connect(bootstrap), ConfigError);
  CHECK_FALSE(asked);  // nothing is connected first
}
