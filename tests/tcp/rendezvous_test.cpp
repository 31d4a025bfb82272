// How ranks meet, and what each is told when they cannot.
#include <condition_variable>
#include <mutex>
#include <thread>

#include "comm/error.h"
#include "comm/tcp/socket.h"
#include "comm/tcp/store.h"
#include "tests/catch.h"
#include "tests/tcp/tcp_ranks.h"

using namespace acp;
using namespace acp::tcp;

namespace {

// One message around the ring: the group works.
void greet(Transport& t) {
  const int n = t.size();
  const std::byte out[1] = {static_cast<std::byte>(t.rank())};
  std::byte in[1] = {};
  const Ticket r = t.receive((t.rank() + n - 1) % n, in, 1);
  t.wait(t.send((t.rank() + 1) % n, out, 1));
  t.wait(r);
  if (in[0] != static_cast<std::byte>((t.rank() + n - 1) % n)) throw Error("wrong greeting");
}

// Processes of these ranks and world sizes, each with a change to its endpoint.
struct Process {
  int rank, size;
  std::function<void(Endpoint&)> adjust = nullptr;
};

std::vector<Outcome> start(const std::vector<Process>& processes, int port = free_port()) {
  std::vector<std::function<void()>> bodies;
  for (const Process& p : processes) {
    bodies.emplace_back([&p, port] {
      Endpoint endpoint = local_endpoint(p.rank, p.size, port);
      if (p.adjust) p.adjust(endpoint);
      const auto transport = connect(endpoint);
      greet(*transport);
    });
  }
  return run_threads(bodies);
}

std::function<void(Endpoint&)> secret(std::string text) {
  return [text](Endpoint& e) { e.secret = text; };
}

}  // namespace

TEST_CASE("tcp: a rank that does not come is named to all who have", "[tcp]") {
  const Environment timeout("ACP_TIMEOUT", "4");
  const auto outcomes = start({{0, 4}, {1, 4}});
  for (const Outcome& o : outcomes) {
    CHECK(o.kind == "peer");
    CHECK(o.peer == 2);
    CHECK_THAT(o.text, ContainsSubstring("ranks 2, 3 of 4 did not come to 127.0.0.1"));
    CHECK_THAT(o.text, ContainsSubstring("ACP_TIMEOUT"));
  }
}

TEST_CASE("tcp: without rank 0 the others end at the deadline", "[tcp]") {
  const Environment timeout("ACP_TIMEOUT", "1.5");
  const auto outcomes = start({{1, 2}});
  CHECK(outcomes[0].peer == 0);
  CHECK_THAT(outcomes[0].text, ContainsSubstring("could not be reached within 1.5 s"));
}

TEST_CASE("tcp: a rank claimed twice is refused on every side", "[tcp]") {
  const Environment timeout("ACP_TIMEOUT", "30");
  for (const Outcome& o : start({{0, 3}, {1, 3}, {1, 3}})) {
    CHECK(o.kind == "config");
    CHECK_THAT(o.text, ContainsSubstring("rank 1 is claimed twice"));
  }
}

TEST_CASE("tcp: rank 0 started twice finds the port taken", "[tcp]") {
  const Environment timeout("ACP_TIMEOUT", "4");
  const auto outcomes = start({{0, 2}, {0, 2}});
  const Outcome& second = outcomes[outcomes[0].kind == "config" ? 0 : 1];
  CHECK(second.kind == "config");
  CHECK_THAT(second.text, ContainsSubstring("rank 0 cannot listen on 127.0.0.1:"));
  CHECK_THAT(second.text, ContainsSubstring("choose another MASTER_PORT"));
}

TEST_CASE("tcp: a rank beyond the world size is refused on both sides", "[tcp]") {
  const Environment timeout("ACP_TIMEOUT", "30");
  for (const Outcome& o : start({{0, 2}, {2, 2}})) {
    CHECK(o.kind == "config");
    CHECK_THAT(o.text, ContainsSubstring("rank 2 lies beyond the world size 2"));
  }
}

TEST_CASE("tcp: different world sizes are refused on both sides", "[tcp]") {
  const Environment timeout("ACP_TIMEOUT", "30");
  for (const Outcome& o : start({{0, 2}, {1, 3}})) {
    CHECK(o.kind == "config");
    CHECK_THAT(o.text, ContainsSubstring("with world size 3, rank 0 with 2"));
  }
}

TEST_CASE("tcp: ranks with another secret are refused on both sides", "[tcp]") {
  const Environment timeout("ACP_TIMEOUT", "30");
  const auto [a, b] = GENERATE(std::pair("one", "another"), std::pair("", "another"), std::pair("one", ""));
  for (const Outcome& o : start({{0, 2, secret(a)}, {1, 2, secret(b)}})) {
    CHECK(o.kind == "config");
    CHECK_THAT(o.text, ContainsSubstring("do not share one ACP_SECRET"));
  }
}

TEST_CASE("tcp: one secret for all lets them in", "[tcp]") {
  for (const Outcome& o : start({{0, 2, secret("one")}, {1, 2, secret("one")}})) CHECK(o.text.empty());
}

TEST_CASE("tcp: whoever comes to a complete group is sent away, and the group goes on", "[tcp]") {
  const Environment timeout("ACP_TIMEOUT", "30");
  const int port = free_port();
  Outcome late_rank;
  Outcome late_size;
  const auto outcomes = run_threads({[&] {
                                       const auto t = connect(local_endpoint(0, 2, port));
                                       greet(*t);
                                       late_rank = outcome_of([&] { connect(local_endpoint(1, 2, port)); });
                                       late_size = outcome_of([&] { connect(local_endpoint(2, 3, port)); });
                                       greet(*t);
                                     },
                                     [&] {
                                       const auto t = connect(local_endpoint(1, 2, port));
                                       greet(*t);
                                       greet(*t);
                                     }});
  for (const Outcome& o : outcomes) CHECK(o.text.empty());
  CHECK(late_rank.kind == "config");
  CHECK_THAT(late_rank.text, ContainsSubstring("rank 1 is claimed twice"));
  CHECK(late_size.kind == "config");
  CHECK_THAT(late_size.text, ContainsSubstring("with world size 3, rank 0 with 2"));
}

TEST_CASE("tcp: one group after the other at the same port", "[tcp]") {
  const Environment timeout("ACP_TIMEOUT", "60");
  const int port = free_port();
  std::vector<std::function<void()>> bodies;
  for (int r = 0; r < 3; ++r) {
    bodies.emplace_back([r, port] {
      for (int round = 0; round < 6; ++round) {
        const auto t = connect(local_endpoint(r, 3, port));
        greet(*t);
      }
    });
  }
  for (const Outcome& o : run_threads(bodies)) CHECK(o.text.empty());
}

TEST_CASE("tcp: under an agent all are clients of its store", "[tcp]") {
  const Environment timeout("ACP_TIMEOUT", "30");
  const int port = free_port();
  const Store agent = Store::serve(listen_at(Address::numeric("127.0.0.1", port)), "");
  const auto elastic = [](std::string run) {
    return [run](Endpoint& e) {
      e.agent_store = true;
      e.prefix = run;
    };
  };
  // A restart has other keys; the same keys serve again once their group is complete.
  for (const char* run : {"job/0", "job/0", "job/1"}) {
    for (const Outcome& o : start({{0, 2, elastic(run)}, {1, 2, elastic(run)}}, port)) CHECK(o.text.empty());
  }
  for (const Outcome& o : start({{0, 2, elastic("x")}, {0, 2, elastic("x")}}, port)) {
    CHECK_THAT(o.text, ContainsSubstring("rank 0 is claimed twice"));
  }
}

TEST_CASE("tcp: what listens at the master's port is no store", "[tcp]") {
  const Environment timeout("ACP_TIMEOUT", "2");
  const Fd listener = listen_at(Address::numeric("127.0.0.1", 0));
  const int port = Address::local_of(listener.get()).port();
  SECTION("it accepts and says nothing") {
    const auto outcomes = start({{1, 2}}, port);
    CHECK(outcomes[0].peer == 0);
    CHECK_THAT(outcomes[0].text, ContainsSubstring("2 s (ACP_TIMEOUT)"));
  }
  SECTION("it speaks HTTP") {
    std::jthread server([&](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        const Fd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (fd) {
          ::send(fd.get(), "HTTP/1.0 400 Bad Request\r\n\r\n", 28, MSG_NOSIGNAL);
          char rest[256];
          ::recv(fd.get(), rest, sizeof(rest), 0);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
    const auto outcomes = start({{1, 2}}, port);
    CHECK(outcomes[0].peer == 0);
    CHECK_THAT(outcomes[0].text, ContainsSubstring("the store at 127.0.0.1:"));
  }
  SECTION("rank 0 wants it") {
    const auto outcomes = start({{0, 2}}, port);
    CHECK(outcomes[0].kind == "config");
    CHECK_THAT(outcomes[0].text, ContainsSubstring("127.0.0.1:" + std::to_string(port)));
  }
}

TEST_CASE("tcp: a network interface by name, by address, and one that is not there", "[tcp]") {
  const auto on = [](std::string name) { return [name](Endpoint& e) { e.interface = name; }; };
  for (const Outcome& o : start({{0, 2, on("lo")}, {1, 2, on("127.0.0.1")}})) CHECK(o.text.empty());
  const Environment timeout("ACP_TIMEOUT", "2");
  const auto outcomes = start({{0, 2, on("nope0")}});
  CHECK(outcomes[0].kind == "config");
  CHECK_THAT(outcomes[0].text, ContainsSubstring("ACP_INTERFACE=\"nope0\""));
  CHECK_THAT(outcomes[0].text, ContainsSubstring("lo (127.0.0.1)"));
}

TEST_CASE("tcp: endpoints that make no sense", "[tcp]") {
  const auto text = [](int rank, int size, int port) {
    return outcome_of([&] { connect(local_endpoint(rank, size, port)); }).text;
  };
  CHECK_THAT(text(0, 0, 1), ContainsSubstring("world size is 0"));
  CHECK_THAT(text(-1, 2, 1), ContainsSubstring("rank is -1"));
  CHECK_THAT(text(1, 1, 1), ContainsSubstring("rank 1 lies beyond the world size 1"));
  CHECK_THAT(text(0, 2, 70000), ContainsSubstring("port is 70000"));
}

TEST_CASE("tcp: rank, size and master from the environment", "[tcp]") {
  const Environment clear[] = {{"RANK", nullptr},
                               {"WORLD_SIZE", nullptr},
                               {"OMPI_COMM_WORLD_RANK", nullptr},
                               {"PMIX_RANK", nullptr},
                               {"PMI_RANK", nullptr},
                               {"OMPI_COMM_WORLD_SIZE", nullptr},
                               {"PMI_SIZE", nullptr},
                               {"MASTER_ADDR", nullptr},
                               {"MASTER_PORT", nullptr},
                               {"ACP_INTERFACE", nullptr},
                               {"ACP_STREAMS", nullptr},
                               {"ACP_SHARED_MEMORY", nullptr},
                               {"ACP_SECRET", nullptr},
                               {"TORCHELASTIC_RUN_ID", nullptr},
                               {"TORCHELASTIC_RESTART_COUNT", nullptr},
                               {"TORCHELASTIC_USE_AGENT_STORE", nullptr}};
  const auto error = [] { return outcome_of([] { endpoint_from_environment(); }); };

  CHECK_THAT(error().text, ContainsSubstring("RANK is not set"));
  {
    const Environment mpirun[] = {{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "8"}};
    const Endpoint e = endpoint_from_environment();
    CHECK(e.rank == 3);
    CHECK(e.size == 8);
    CHECK(e.master_address == "127.0.0.1");
    CHECK(e.master_port == 29500);
    CHECK_FALSE(e.agent_store);
    CHECK(e.local_sockets);
    const Environment torchrun[] = {{"RANK", "1"}, {"WORLD_SIZE", "2"}};
    CHECK(endpoint_from_environment().rank == 1);
    CHECK(endpoint_from_environment().size == 2);
  }
  const Environment all[] = {{"RANK", "1"},
                             {"WORLD_SIZE", "2"},
                             {"MASTER_ADDR", "node7"},
                             {"MASTER_PORT", "1234"},
                             {"ACP_INTERFACE", "eth3"},
                             {"ACP_STREAMS", "4"},
                             {"ACP_SHARED_MEMORY", "0"},
                             {"ACP_SECRET", "s"},
                             {"TORCHELASTIC_RUN_ID", "run"},
                             {"TORCHELASTIC_RESTART_COUNT", "2"},
                             {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
  const Endpoint e = endpoint_from_environment();
  CHECK(e.master_address == "node7");
  CHECK(e.master_port == 1234);
  CHECK(e.interface == "eth3");
  CHECK(e.secret == "s");
  CHECK(e.streams == 4);
  CHECK_FALSE(e.local_sockets);
  CHECK(e.prefix == "run/2");
  CHECK(e.agent_store);
  for (const char* bad : {"x", "-1", "1x", "99999999999"}) {
    const Environment rank("RANK", bad);
    CHECK(error().kind == "config");
    CHECK_THAT(error().text, ContainsSubstring("RANK=\"" + std::string(bad) + "\""));
  }
}
