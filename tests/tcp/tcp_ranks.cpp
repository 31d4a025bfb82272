// Threads, outcomes and small tools of the tcp tests.
#include "tests/tcp/tcp_ranks.h"

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "comm/error.h"
#include "comm/tcp/socket.h"

namespace acp::tcp {

int free_port() {
  const Fd fd = listen_at(Address::numeric("127.0.0.1", 0));
  return Address::local_of(fd.get()).port();
}

Endpoint local_endpoint(int rank, int size, int port) {
  Endpoint endpoint;
  endpoint.rank = rank;
  endpoint.size = size;
  endpoint.master_port = port;
  endpoint.local_sockets = false;
  return endpoint;
}

Outcome outcome_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const PeerError& e) {
    return {"peer", e.peer(), e.what()};
  } catch (const CommunicationError& e) {
    return {"communication", -1, e.what()};
  } catch (const ConfigError& e) {
    return {"config", -1, e.what()};
  } catch (const std::exception& e) {
    return {"other", -1, e.what()};
  }
  return {};
}

std::vector<Outcome> run_threads(const std::vector<std::function<void()>>& bodies) {
  std::vector<Outcome> outcomes(bodies.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      threads.emplace_back([&, i] { outcomes[i] = outcome_of(bodies[i]); });
    }
  }
  return outcomes;
}

std::vector<Outcome> outcomes_on_tcp(int n, const std::function<void(Transport&)>& body,
                                     const std::function<void(Endpoint&)>& adjust) {
  const int port = free_port();
  std::vector<std::function<void()>> bodies;
  for (int r = 0; r < n; ++r) {
    bodies.emplace_back([&, r] {
      Endpoint endpoint = local_endpoint(r, n, port);
      if (adjust) adjust(endpoint);
      const auto transport = connect(endpoint);
      try {
        body(*transport);
      } catch (...) {
        transport->abort(std::current_exception());
        throw;
      }
    });
  }
  return run_threads(bodies);
}

void on_tcp(int n, const std::function<void(Transport&)>& body,
            const std::function<void(Endpoint&)>& adjust) {
  for (const Outcome& outcome : outcomes_on_tcp(n, body, adjust)) {
    if (outcome.kind != "ok") throw Error(outcome.text);
  }
}

std::vector<int> listening_ports() {
  std::vector<int> ports;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename());
    int listens = 0;
    socklen_t length = sizeof(listens);
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens != 0) {
      ports.push_back(Address::local_of(fd).port());
    }
  }
  return ports;
}

}  // namespace acp::tcp
