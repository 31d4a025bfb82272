// Ranks that abort, leave, close a channel or stand still: what the others are told.
#include <condition_variable>
#include <mutex>
#include <span>

#include "comm/error.h"
#include "tests/catch.h"
#include "tests/tcp/tcp_ranks.h"

using namespace acp;
using namespace acp::tcp;

namespace {

using Adjust = void (*)(Endpoint&);
const Adjust over_network = [](Endpoint& e) { e.local_sockets = false; };
const Adjust on_one_machine = [](Endpoint& e) { e.local_sockets = true; };

// Lets threads of one test wait for each other outside of the group.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    ++opened_;
    changed_.notify_all();
  }
  void wait_for(int times) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return opened_ >= times; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int opened_ = 0;
};

// Waits for what does not come, lets the others go, and ends this rank with what became of it.
[[noreturn]] void receive_in_vain(Transport& t, int peer, std::span<std::byte> in, Gate& ended) {
  const auto o = outcome_of([&] { t.wait(t.receive(peer, in, 1)); });
  ended.open();
  throw PeerError(o.peer, o.text);
}

std::byte token[4];

void ring_once(Transport& t) {
  const int n = t.size();
  std::byte in[4];
  const Ticket r = t.receive((t.rank() + n - 1) % n, in, 1);
  t.wait(t.send((t.rank() + 1) % n, token, 1));
  t.wait(r);
}

}  // namespace

TEST_CASE("tcp: an abort ends every wait on every channel and says who and why", "[tcp]") {
  const Adjust adjust = GENERATE(over_network, on_one_machine);
  Gate waiting;
  const auto outcomes = outcomes_on_tcp(
      4,
      [&](Transport& t) {
        const auto other = t.channel();
        ring_once(t);
        if (t.rank() == 2) {
          waiting.wait_for(3);
          throw std::runtime_error("disk full");
        }
        waiting.open();
        std::byte in[4];
        Transport& c = t.rank() == 0 ? *other : t;  // nobody ever sends
        c.wait(c.receive((t.rank() + 1) % 4, in, 7));
      },
      adjust);
  CHECK(outcomes[2].text == "disk full");
  for (const int r : {0, 1, 3}) {
    const Outcome& o = outcomes[static_cast<std::size_t>(r)];
    CHECK(o.kind == "peer");
    CHECK(o.peer == 2);
    CHECK_THAT(o.text, ContainsSubstring("disk full"));
  }
}

TEST_CASE("tcp: after a failure every call says the same", "[tcp]") {
  const Adjust adjust = GENERATE(over_network, on_one_machine);
  const auto outcomes = outcomes_on_tcp(
      2,
      [&](Transport& t) {
        const auto other = t.channel();
        if (t.rank() == 1) t.abort(std::make_exception_ptr(Error("enough")));
        std::byte in[4];
        const auto why = outcome_of([&] { t.wait(t.receive(1 - t.rank(), in, 1)); });
        CHECK(outcome_of([&] { t.send(1 - t.rank(), token, 1); }).text == why.text);
        CHECK(outcome_of([&] { other->receive(1 - t.rank(), in, 1); }).text == why.text);
        CHECK(outcome_of([&] { other->channel(); }).text == why.text);
        throw Error(why.text);
      },
      adjust);
  CHECK(outcomes[1].text == "enough");
  CHECK(outcomes[0].text.find("enough") != std::string::npos);
}

TEST_CASE("tcp: a rank that ends early is no failure until it is needed", "[tcp]") {
  const Adjust adjust = GENERATE(over_network, on_one_machine);
  const auto outcomes = outcomes_on_tcp(
      3,
      [&](Transport& t) {
        ring_once(t);
        if (t.rank() == 2) return;
        std::byte in[4];
        for (int i = 0; i < 100; ++i) {
          const Ticket r = t.receive(1 - t.rank(), in, 1);
          t.wait(t.send(1 - t.rank(), token, 1));
          t.wait(r);
        }
        if (t.rank() == 0) t.wait(t.receive(2, in, 1));
        if (t.rank() == 1) t.wait(t.receive(0, in, 1));
      },
      adjust);
  CHECK(outcomes[2].text.empty());
  for (const int r : {0, 1}) {
    const Outcome& o = outcomes[static_cast<std::size_t>(r)];
    CHECK(o.peer == 2);
    CHECK_THAT(o.text, ContainsSubstring("rank 2 has ended its part and left"));
  }
}

TEST_CASE("tcp: a message still expected on a channel that the peer has closed", "[tcp]") {
  const Adjust adjust = GENERATE(over_network, on_one_machine);
  const auto outcomes = outcomes_on_tcp(
      2,
      [&](Transport& t) {
        auto channel = t.channel();
        ring_once(*channel);
        if (t.rank() == 1) {
          channel.reset();
          std::byte in[4];
          t.wait(t.receive(0, in, 1));
        } else {
          std::byte in[4];
          channel->wait(channel->receive(1, in, 1));
        }
      },
      adjust);
  CHECK(outcomes[0].peer == 1);
  CHECK_THAT(outcomes[0].text, ContainsSubstring("rank 1 has closed this channel"));
}

TEST_CASE("tcp: at the deadline the rank that holds up all others is named", "[tcp]") {
  const Adjust adjust = GENERATE(over_network, on_one_machine);
  const Environment timeout("ACP_TIMEOUT", "2");
  Gate ended;
  const auto outcomes = outcomes_on_tcp(
      4,
      [&](Transport& t) {
        ring_once(t);
        if (t.rank() == 3) {
          ended.wait_for(3);
          return;
        }
        std::byte in[4];
        // 0 waits for 1, 1 for 2, 2 for 3, and 3 for nobody.
        receive_in_vain(t, t.rank() + 1, in, ended);
      },
      adjust);
  for (const int r : {0, 1, 2}) {
    const Outcome& o = outcomes[static_cast<std::size_t>(r)];
    CHECK(o.peer == 3);
    CHECK_THAT(o.text, ContainsSubstring("rank 3 did not take part within 2 s (ACP_TIMEOUT)"));
  }
}

TEST_CASE("tcp: a peer that stops in the middle of a long payload is named at the deadline", "[tcp]") {
  const Adjust adjust = GENERATE(over_network, on_one_machine);
  const Environment timeout("ACP_TIMEOUT", "2");
  Gate ended;
  const auto outcomes = outcomes_on_tcp(
      2,
      [&](Transport& t) {
        ring_once(t);
        std::vector<std::byte> data(std::size_t{64} << 20);
        if (t.rank() == 1) {
          t.send(0, data, 1);  // as far as the kernel takes it: nobody waits for the rest
          ended.wait_for(1);
          return;
        }
        receive_in_vain(t, 1, data, ended);
      },
      adjust);
  CHECK(outcomes[0].peer == 1);
  CHECK_THAT(outcomes[0].text, ContainsSubstring("2 s (ACP_TIMEOUT)"));
}

TEST_CASE("tcp: ranks that wait for each other, and one that lacks the channel", "[tcp]") {
  const Adjust adjust = GENERATE(over_network, on_one_machine);
  const Environment timeout("ACP_TIMEOUT", "2");
  auto outcomes = outcomes_on_tcp(
      2,
      [&](Transport& t) {
        std::byte in[4];
        t.wait(t.receive(1 - t.rank(), in, 1));
      },
      adjust);
  for (const Outcome& o : outcomes) CHECK_THAT(o.text, ContainsSubstring("ranks wait for each other"));

  Gate ended;
  outcomes = outcomes_on_tcp(
      2,
      [&](Transport& t) {
        if (t.rank() == 1) return ended.wait_for(1);
        const auto channel = t.channel();
        std::byte in[4];
        const auto o = outcome_of([&] { channel->wait(channel->receive(1, in, 1)); });
        ended.open();
        throw PeerError(o.peer, o.text);
      },
      adjust);
  CHECK_THAT(outcomes[0].text, ContainsSubstring("rank 1 did not take part"));
  CHECK_THAT(outcomes[0].text, ContainsSubstring("has not opened this channel (number 1)"));
}
