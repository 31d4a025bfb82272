// What happens when ranks fail, differ, leave, or never come: a clear line on every rank, and no hang.
#include <ATen/ATen.h>

#include <array>
#include <atomic>
#include <latch>
#include <map>

#include "comm/error.h"
#include "comm/local/local.h"
#include "tests/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/timeout.h"

using namespace acp;
using namespace acp::test;

namespace {

// What each rank was told.
class Told {
 public:
  void run(Communicator& c, const std::function<void()>& body) {
    std::string text = "nothing";
    int peer = -1;
    try {
      body();
    } catch (const PeerError& e) {
      text = e.what();
      peer = e.peer();
    } catch (const Error& e) {
      text = e.what();
    }
    const std::lock_guard lock(mutex_);
    texts_[c.rank()] = text;
    peers_[c.rank()] = peer;
  }
  std::string text(int rank) const { return texts_.at(rank); }
  int peer(int rank) const { return peers_.at(rank); }

 private:
  std::mutex mutex_;
  std::map<int, std::string> texts_;
  std::map<int, int> peers_;
};

Collective labelled(std::int64_t numel) {
  Collective op = Collective::all_reduce(at::zeros({numel}));
  op.label = "step 7, bucket 2: fc.weight";
  op.algorithm = Algorithm::ring;
  return op;
}

}  // namespace

TEST_CASE("a rank that never comes is named by all at the deadline", "[ranks][faults]") {
  const Timeout timeout("0.3");
  Told told;
  std::latch done(3);
  on_ranks(4, [&](Communicator& c) {
    if (c.rank() == 2) {
      done.wait();  // alive, but elsewhere
      return;
    }
    told.run(c, [&] { perform(c, labelled(1 << 20)); });
    done.count_down();
  });
  // Rank 3 waits for rank 2 itself; the others wait for one another or learn it from those who do.
  CHECK(told.text(3).find("[local] rank 3: ") == 0);
  for (const int r : {0, 1, 3}) {
    INFO(told.text(r));
    CHECK(told.text(r).find("[local] rank " + std::to_string(r) + ": ") == 0);
    CHECK_THAT(told.text(r), ContainsSubstring("nothing for 0.3 s (ACP_TIMEOUT)"));
    CHECK_THAT(told.text(r),
               ContainsSubstring("during all_reduce of 4 MiB float32 (step 7, bucket 2: fc.weight)"));
    const bool names_it =
        told.text(r).find("peer 2 ") != std::string::npos || told.text(r).find("rank 2") != std::string::npos;
    CHECK(names_it);
  }
}

TEST_CASE("a rank that leaves is told from one that is late", "[ranks][faults]") {
  Told told;
  on_ranks(3, [&](Communicator& c) {
    if (c.rank() == 1) return;
    told.run(c, [&] { perform(c, labelled(100000)); });
  });
  CHECK(told.text(2) ==
        "[local] rank 2: peer 1 closed the connection during all_reduce of 390.6 KiB float32 (step 7, bucket "
        "2: fc.weight)");
  CHECK(told.peer(2) == 1);
  CHECK_THAT(told.text(0), ContainsSubstring("peer 1 closed the connection"));
}

TEST_CASE("an abort fails what waits, what is queued and what comes, on all ranks and channels",
          "[ranks][faults]") {
  Told told, told_later, told_queued;
  std::latch waiting(2), over(3);
  on_ranks(3, [&](Communicator& c) {
    const auto other = c.channel();
    if (c.rank() == 0) {
      waiting.wait();
      other->abort(std::make_exception_ptr(DataError("the disk is full")));
    }
    std::future<void> first = c.start(labelled(50)), queued = c.start(labelled(60));
    if (c.rank() != 0) waiting.count_down();
    told.run(c, [&] { first.get(); });
    told_queued.run(c, [&] { queued.get(); });
    told_later.run(c, [&] { perform(*other, labelled(70)); });
    over.arrive_and_wait();  // nobody leaves before all have been told
  });
  for (const int r : {1, 2}) {
    CHECK(told.text(r) ==
          "[local] rank " + std::to_string(r) +
              ": stopped by rank 0 (the disk is full) during all_reduce of 200 B float32 (step 7, bucket 2: "
              "fc.weight)");
    CHECK(told.peer(r) == 0);
    CHECK(told_queued.text(r) == told.text(r));  // the first reason
    CHECK_THAT(told_later.text(r),
               ContainsSubstring("stopped by rank 0 (the disk is full) during all_reduce of 280 B"));
  }
  CHECK_THAT(told.text(0), ContainsSubstring("[local] rank 0: the disk is full during all_reduce"));
  CHECK(told_later.text(0) == "the disk is full");
}

TEST_CASE("the first reason of an abort stands, and its class on the rank that gave it", "[ranks][faults]") {
  on_ranks(1, [](Communicator& c) {
    c.abort(std::make_exception_ptr(DataError("first")));
    c.abort(std::make_exception_ptr(ConfigError("second")));
    c.abort(nullptr);
    try {
      perform(c, Collective::barrier());
    } catch (const DataError& e) {
      if (std::string(e.what()) == "first") return;
    }
    throw std::runtime_error("another reason or class");
  });
}

TEST_CASE("ranks that do different things are told so", "[ranks][faults]") {
  const int variant = GENERATE(range(0, 6));
  const int ranks = GENERATE(2, 3);
  const Timeout timeout("1");  // where no two messages meet, the deadline names who is missing
  Told told;
  on_ranks(ranks, [&](Communicator& c) {
    const bool odd = c.rank() == 1;
    told.run(c, [&] {
      const at::Tensor x = at::zeros({12});
      switch (variant) {
        case 0:
          return perform(c, Collective::all_reduce(at::zeros({odd ? 16 : 12})));
        case 1:
          return perform(c, Collective::all_reduce(x, odd ? ReduceOp::max : ReduceOp::sum));
        case 2:
          return perform(c, odd ? Collective::barrier() : Collective::all_reduce(x));
        case 3:
          return perform(c, Collective::all_reduce(odd ? x.to(at::kInt) : x));
        case 4:
          // Two roots send and expect nothing: the next collective meets their messages.
          perform(c, odd ? Collective::broadcast(x, 1) : Collective::broadcast(x, 0));
          return perform(c, Collective::barrier());
        default:
          return perform(
              c, Collective::all_gather(at::zeros({odd ? 1 : 2}), at::zeros({(odd ? 1 : 2) * ranks})));
      }
    });
  });
  int noticed = 0;
  for (int r = 0; r < ranks; ++r) {
    INFO(told.text(r));
    noticed += told.text(r).find("the ranks do different things") != std::string::npos ||
               told.text(r).find("ACP_TIMEOUT") != std::string::npos;
    // Whoever was not told has left before anything was wrong, or saw another leave.
    const bool explained = told.text(r) == "nothing" || told.text(r).find("rank") != std::string::npos;
    CHECK(explained);
  }
  INFO("variant " << variant << ", rank 0: " << told.text(0) << "; rank 1: " << told.text(1));
  CHECK(noticed >= 1);
}

TEST_CASE("a failed operation fails what comes later on its channel, not what others do", "[ranks][faults]") {
  Told told;
  on_ranks(2, [&](Communicator& c) {
    const auto channel = c.channel();
    std::string first, second;
    try {
      perform(*channel, Collective::send_receive(1 - c.rank(), at::zeros({c.rank() + 1}), 1 - c.rank(),
                                                 at::zeros({5})));
    } catch (const CommunicationError& e) {
      first = e.what();
    }
    try {
      perform(*channel, Collective::barrier());
    } catch (const CommunicationError& e) {
      second = e.what();
    }
    if (first.empty() || first != second)
      throw std::runtime_error("\"" + first + "\", then \"" + second + "\"");
    try {
      channel->channel();
      throw std::logic_error("opened a channel of a failed one");
    } catch (const CommunicationError&) {
    }
    perform(c, Collective::barrier());
  });
}

TEST_CASE("what is wrong with one operation alone fails it alone", "[ranks][faults]") {
  on_ranks(2, [](Communicator& c) {
    const auto refused = [&](Collective op, const std::string& what) {
      try {
        perform(c, std::move(op));
      } catch (const ConfigError& e) {
        if (std::string(e.what()).find(what) != std::string::npos) return;
        throw std::runtime_error(std::string("another message: ") + e.what());
      }
      throw std::runtime_error("not refused: " + what);
    };
    const at::Tensor x = at::zeros({10});
    refused(Collective::reduce_scatter(x, at::zeros({2})), "x has 10 elements; 2 ranks with 2 each need 4");
    refused(Collective::all_gather(at::zeros({2}), x), "`all` has 10 elements; 2 ranks with 2 each need 4");
    refused(Collective::all_gather_v(at::zeros({3}), x, {5, 5}),
            "this rank has 3 elements, but its count is 5");
    refused(Collective::all_gather_v(at::zeros({5}), x, {5, 4, 1}), "3 counts for 2 ranks");
    refused(Collective::all_to_all(at::zeros({3}), at::zeros({3})),
            "3 elements cannot be cut into 2 equal pieces");
    refused(Collective::broadcast(x, 2), "the root is rank 2, but there are only 2 ranks");
    refused(Collective::send_receive(5, x, -1, {}), "the receiver is rank 5");
    refused(Collective::send_receive(c.rank(), x, 1 - c.rank(), at::zeros({10})), "must receive from itself");
    refused(Collective::all_reduce(x.to(at::kInt), ReduceOp::average),
            "an average needs a floating type, not Int");
    refused(Collective::all_reduce(x.to(at::kShort)), "elements of type Short cannot be reduced");
    refused(Collective::all_to_all(x, x), "input and output share memory");
    refused(Collective::all_gather(x.narrow(0, 1, 5), x), "input and output share memory");
    perform(c, Collective::all_reduce(x));
  });
}

TEST_CASE("a communicator destroyed with operations pending neither hangs nor loses a future",
          "[ranks][faults]") {
  std::vector<std::future<void>> pending;
  on_ranks(2, [&](Communicator& c) {
    if (c.rank() != 0) return;
    for (int i = 0; i < 3; ++i) pending.push_back(c.start(labelled(5)));
  });
  for (auto& future : pending) {
    REQUIRE(future.wait_for(std::chrono::seconds(0)) == std::future_status::ready);
    CHECK_THROWS_AS(future.get(), CommunicationError);
  }
}

TEST_CASE("a stuck operation ends with its communicator, and the peers learn why", "[ranks][faults]") {
  Told told;
  std::future<void> stuck, queued;
  std::latch gone(1);
  on_ranks(2, [&](Communicator& root) {
    if (root.rank() == 0) {
      {
        const auto c = root.channel();
        stuck = c->start(labelled(5));
        queued = c->start(labelled(6));
      }
      gone.count_down();
      return;
    }
    const auto c = root.channel();  // open, so that rank 0 cannot know that nobody will come
    gone.wait();
    told.run(*c, [&] { perform(*c, labelled(5)); });
  });
  CHECK_THROWS_WITH(stuck.get(),
                    ContainsSubstring("rank 0: its communicator was destroyed with operations under way"));
  CHECK_THROWS_WITH(queued.get(),
                    ContainsSubstring("rank 0: its communicator was destroyed with operations under way"));
  CHECK_THAT(told.text(1), ContainsSubstring("stopped by rank 0 (its communicator was destroyed"));
}

TEST_CASE("operations that nobody waits for end before their communicator", "[ranks][faults]") {
  const at::Tensor sums = at::zeros({3});
  on_ranks(3, [&](Communicator& c) {
    const at::Tensor x = at::full({1}, c.rank() + 1.0F);
    {
      const auto channel = c.channel();
      channel->start(Collective::barrier());
      channel->start(Collective::all_reduce(x));
    }
    sums[c.rank()] = x[0];
  });
  CHECK(at::equal(sums, at::full({3}, 6.0F)));
}

TEST_CASE("a failed operation's memory is left alone", "[ranks][faults]") {
  // Rank 0 gives up with receives posted, frees its tensor, and only then rank 1 sends.
  const Timeout timeout("0.2");
  auto transports = local::transports(2);
  std::vector<std::byte> data(100000);
  {
    std::vector<std::byte> mine(100000);
    const Ticket first = transports[0]->receive(1, mine, 5);
    transports[0]->receive(1, mine, 5);
    CHECK_THROWS_AS(transports[0]->wait(first), PeerError);
  }
  const Ticket sent = transports[1]->send(0, data, 5);
  CHECK_THROWS_WITH(transports[1]->wait(sent),
                    ContainsSubstring("stopped by rank 0 (peer 1 sent nothing for 0.2 s"));
}

TEST_CASE("ranks with another ACP_TIMEOUT than a number are told so", "[ranks][faults]") {
  const Timeout timeout("soon");
  CHECK_THROWS_WITH(on_ranks(2, [](Communicator& c) { perform(c, labelled(5000)); }),
                    ContainsSubstring("ACP_TIMEOUT is \"soon\"; it must be a positive number of seconds"));
}
