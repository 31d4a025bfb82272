// Whatever else connects to the listening ports is dropped and disturbs nobody.
#include <atomic>
#include <random>
#include <thread>

#include "comm/error.h"
#include "comm/tcp/handshake.h"
#include "comm/tcp/socket.h"
#include "tests/catch.h"
#include "tests/tcp/tcp_ranks.h"

using namespace acp;
using namespace acp::tcp;

namespace {

Fd call(int port) {
  return connect_to(Address::numeric("127.0.0.1", port), Clock::now() + std::chrono::seconds(30));
}

// Blocks until the other side has closed.
void expect_close(const Fd& fd) {
  std::byte byte{};
  for (;;) {
    try {
      read_all(fd.get(), {&byte, 1}, Clock::now() + std::chrono::seconds(60));
    } catch (const std::system_error& e) {
      if (e.code().value() == ETIMEDOUT) throw Error("a stranger was not dropped");
      return;
    }
  }
}

void say(const Fd& fd, std::string_view text) {
  ::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
}

// All sorts of visitors, to every port of this process; `closes` are those whose end was seen.
void visit(const std::vector<int>& ports, std::vector<Fd>& kept) {
  std::minstd_rand random(7);
  for (const int port : ports) {
    for (int i = 0; i < 20; ++i) {
      std::string garbage(1 + random() % 3000, '\0');
      for (char& c : garbage) c = static_cast<char>(random() >> 8);
      const Fd fd = call(port);
      say(fd, garbage);
    }
    say(call(port), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    call(port);                  // comes and goes
    kept.push_back(call(port));  // says nothing
    kept.push_back(call(port));
    say(kept.back(), "ACP-");  // and no more
  }
}

}  // namespace

TEST_CASE("tcp: strangers at the ports disturb nobody", "[tcp]") {
  std::atomic<bool> done = false;
  std::atomic<int> rounds = 0;
  std::vector<std::vector<Fd>> idle(1);
  std::jthread visitors([&] {
    while (rounds < 10) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::vector<int> ports = listening_ports();
    visit(ports, idle[0]);
    for (int i = 0; i < 300; ++i) idle[0].push_back(call(ports[static_cast<std::size_t>(i) % ports.size()]));
    const int before = rounds;
    while (rounds < before + 100) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    done = true;
  });
  on_tcp(2, [&](Transport& t) {
    const int peer = 1 - t.rank();
    std::byte stop[1] = {};
    for (int i = 0; stop[0] == std::byte{0}; ++i) {
      // Now and then on a channel just opened, so that there are calls to admit among the strangers'.
      const std::unique_ptr<Transport> fresh = i % 10 == 0 ? t.channel() : nullptr;
      Transport& c = fresh ? *fresh : t;
      if (t.rank() == 0) {
        stop[0] = static_cast<std::byte>(done.load());
        c.wait(c.send(peer, stop, 1));
        std::byte answer[1];
        c.wait(c.receive(peer, answer, 2));
        ++rounds;
      } else {
        c.wait(c.receive(peer, stop, 1));
        c.wait(c.send(peer, stop, 2));
      }
    }
  });
  CHECK(done);
}

TEST_CASE("tcp: a caller without the secret is dropped, whatever it claims to be", "[tcp]") {
  std::atomic<int> store = 0;  // its port is c10d's, which has ways of its own with strangers
  const auto ports = [&] {
    std::vector<int> own = listening_ports();
    std::erase(own, store.load());
    return own;
  };
  on_tcp(
      2,
      [&](Transport& t) {
        const int peer = 1 - t.rank();
        std::byte token[1] = {};
        if (t.rank() == 0) {
          for (const int port : ports()) {
            for (const std::uint32_t channel : {0U, 1U, control_channel}) {
              for (const std::uint32_t to : {0U, 1U, 5U}) {
                Hello hello;
                hello.world = 2;
                hello.from = 1 - to % 2;
                hello.to = to;
                hello.channel = channel;
                hello.streams = static_cast<std::uint32_t>(Endpoint().streams);
                const Fd fd = call(port);
                CHECK_THROWS_AS(
                    introduce(fd.get(), hello, "guess", Clock::now() + std::chrono::seconds(30), -1),
                    std::system_error);
              }
            }
          }
          // One that stops after a true Hello is dropped a few seconds later.
          for (const int port : ports()) {
            const Fd fd = call(port);
            say(fd, "ACP-TCP1");
            expect_close(fd);
          }
          t.wait(t.send(peer, token, 1));
        } else {
          t.wait(t.receive(peer, token, 1));
        }
      },
      [&](Endpoint& endpoint) { store = endpoint.master_port; });
}
