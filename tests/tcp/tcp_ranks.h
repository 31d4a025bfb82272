// Ranks over tcp as threads of this process, and what became of each.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comm/tcp/tcp.h"
#include "comm/transport.h"
#include "tests/support/temp_folder.h"

namespace acp::tcp {

// A port that is free on loopback at this moment.
int free_port();

// Of `size` ranks that meet at 127.0.0.1:port, and talk over the network although they share a machine.
Endpoint local_endpoint(int rank, int size, int port);

// How a rank's body ended.
struct Outcome {
  std::string kind = "ok";  // "ok", "peer", "communication", "config", "other"
  int peer = -1;            // of a PeerError
  std::string text;
};
Outcome outcome_of(const std::function<void()>& body);

// One thread for each body; returns when all have ended.
std::vector<Outcome> run_threads(const std::vector<std::function<void()>>& bodies);

// n ranks that connect and run `body`; a throw aborts the others. The first exception in rank order is
// rethrown, after all have ended.
void on_tcp(int n, const std::function<void(Transport&)>& body,
            const std::function<void(Endpoint&)>& adjust = nullptr);

// The same, but reports how each rank ended.
std::vector<Outcome> outcomes_on_tcp(int n, const std::function<void(Transport&)>& body,
                                     const std::function<void(Endpoint&)>& adjust = nullptr);

// Ports on which this process listens.
std::vector<int> listening_ports();

}  // namespace acp::tcp
