// Ranks as processes: the suite, a rank killed in mid-collective, a rank stopped, what is printed.
#include <csignal>

#include "tests/catch.h"
#include "tests/tcp/child.h"
#include "tests/tcp/tcp_ranks.h"

using namespace acp;
using namespace acp::tcp;

TEST_CASE("tcp: collectives between processes", "[tcp]") {
  auto children = start_children("suite", 3);
  for (int r = 0; r < 3; ++r) {
    Child& child = children[static_cast<std::size_t>(r)];
    CHECK(child.wait() == 0);
    CHECK_THAT(child.output(), ContainsSubstring("[tcp] rank " + std::to_string(r) + " of 3: 127.0.0.1:"));
    CHECK_THAT(child.output(), ContainsSubstring(" (lo)"));
  }
}

TEST_CASE("tcp: a rank killed in mid-collective is named by all others", "[tcp]") {
  const std::string memory =
      GENERATE("1", "0");  // shared, with slots filled and answers under way, or sockets
  auto children = start_children("endless", 4, {{"ACP_SHARED_MEMORY", memory}});
  for (Child& child : children) REQUIRE(child.wait_for("under way"));
  children[2].signal(SIGKILL);
  CHECK(children[2].wait() == -SIGKILL);
  for (const int r : {0, 1, 3}) {
    Child& child = children[static_cast<std::size_t>(r)];
    CHECK(child.wait() == 4);
    CHECK_THAT(child.output(),
               ContainsSubstring("peer 2: [tcp] rank " + std::to_string(r) + ": peer 2 closed"));
    CHECK_THAT(child.output(), ContainsSubstring("all_reduce of 4 MiB"));
  }
}

TEST_CASE("tcp: a rank that ends without a farewell is named", "[tcp]") {
  auto children = start_children("vanish", 3);
  CHECK(children[1].wait() == 0);
  for (const std::size_t r : {0, 2}) {
    CHECK(children[r].wait() == 4);
    CHECK_THAT(children[r].output(), ContainsSubstring("peer 1: "));
  }
}

TEST_CASE("tcp: a rank that is stopped is named at the deadline", "[tcp]") {
  const std::string memory = GENERATE("1", "0");
  auto children = start_children("endless", 3, {{"ACP_TIMEOUT", "3"}, {"ACP_SHARED_MEMORY", memory}});
  for (Child& child : children) REQUIRE(child.wait_for("under way"));
  children[1].signal(SIGSTOP);
  for (const std::size_t r : {0, 2}) {
    CHECK(children[r].wait() == 4);
    CHECK_THAT(children[r].output(), ContainsSubstring("peer 1: "));
    CHECK_THAT(children[r].output(), ContainsSubstring("rank 1 did not take part within 3 s"));
  }
  children[1].signal(SIGKILL);
  children[1].wait();
}

TEST_CASE("tcp: only the library's own lines are printed", "[tcp]") {
  auto children = start_children("suite", 2, {{"ACP_TIMEOUT", "2"}, {"WORLD_SIZE", "3"}});
  for (Child& child : children) {
    CHECK(child.wait() != 0);
    CHECK(child.output().find("c10d") == std::string::npos);
    CHECK(child.output().find(".cpp") == std::string::npos);
  }
}
