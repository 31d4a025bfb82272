// Starting children, and what they do.
#include "tests/tcp/child.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "comm/error.h"
#include "comm/wire_communicator.h"
#include "tests/catch.h"
#include "tests/support/collective_suite.h"
#include "tests/tcp/tcp_ranks.h"

extern char** environ;

namespace acp::tcp {

namespace {

int run_scenario(const std::string& scenario) {
  WireCommunicator communicator(connect(endpoint_from_environment()));
  const int rank = communicator.rank();
  if (scenario == "suite") {
    test::run_collective_suite(communicator);
    test::run_channel_suite(communicator);
  } else if (scenario == "endless") {
    at::Tensor x = at::ones({1 << 20});
    for (int i = 0;; ++i) {
      perform(communicator, Collective::all_reduce(x, ReduceOp::average));
      if (i == 3) std::cout << "under way" << std::endl;
    }
  } else if (scenario == "vanish") {  // rank 1 ends without a word to anybody
    at::Tensor x = at::ones({10});
    perform(communicator, Collective::all_reduce(x));
    if (rank == 1) std::_Exit(0);
    perform(communicator, Collective::all_reduce(x));
  }
  return 0;
}

}  // namespace

// Not a test: what a child runs. Ends the process with the code that a program would.
TEST_CASE("tcp child", "[.tcp-child]") {
  const char* scenario = std::getenv("ACP_TEST_SCENARIO");
  REQUIRE(scenario != nullptr);
  const Environment loud("ACP_LOG", "info");  // the other tests turn it down
  int code = 0;
  const Outcome outcome = outcome_of([&] { code = run_scenario(scenario); });
  if (!outcome.text.empty())
    std::cout << outcome.kind << " " << outcome.peer << ": " << outcome.text << std::endl;
  if (outcome.kind == "config") code = 2;
  if (outcome.kind == "peer" || outcome.kind == "communication") code = 4;
  if (outcome.kind == "other") code = 1;
  std::exit(code);
}

Child::Child(const std::string& scenario, const std::map<std::string, std::string>& environment) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw Error("pipe2");
  pipe_ = Fd(ends[0]);
  const Fd writing(ends[1]);
  std::vector<std::string> variables = {"ACP_TEST_SCENARIO=" + scenario};
  for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);
  for (char** v = environ; *v != nullptr; ++v) {
    const std::string text = *v;
    if (environment.count(text.substr(0, text.find('='))) == 0) variables.push_back(text);
  }
  std::vector<char*> envp;
  for (auto& v : variables) envp.push_back(v.data());
  envp.push_back(nullptr);
  std::string program = "/proc/self/exe";
  std::string name = "tcp child";
  char* argv[] = {program.data(), name.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, writing.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, writing.get(), 2);
  const int code = ::posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv, envp.data());
  posix_spawn_file_actions_destroy(&actions);
  if (code != 0) throw Error("posix_spawn: " + error_text(code));
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pipe_(std::move(other.pipe_)), output_(std::move(other.output_)) {}

Child::~Child() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

bool Child::read_some() {
  char buffer[4096];
  const auto n = ::read(pipe_.get(), buffer, sizeof(buffer));
  if (n > 0) output_.append(buffer, static_cast<std::size_t>(n));
  return n > 0;
}

bool Child::wait_for(const std::string& text) {
  while (output_.find(text) == std::string::npos) {
    if (!read_some()) return false;
  }
  return true;
}

void Child::signal(int number) const {
  ::kill(pid_, number);
}

int Child::wait() {
  while (read_some()) {
  }
  int status = 0;
  ::waitpid(std::exchange(pid_, -1), &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

std::vector<Child> start_children(const std::string& scenario, int n,
                                  std::map<std::string, std::string> environment) {
  environment.emplace("WORLD_SIZE", std::to_string(n));
  environment["MASTER_ADDR"] = "127.0.0.1";
  environment["MASTER_PORT"] = std::to_string(free_port());
  environment["OMP_NUM_THREADS"] = "1";
  std::vector<Child> children;
  for (int r = 0; r < n; ++r) {
    environment["RANK"] = std::to_string(r);
    children.emplace_back(scenario, environment);
  }
  return children;
}

}  // namespace acp::tcp
