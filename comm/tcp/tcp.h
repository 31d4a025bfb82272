// The `tcp` backend: own sockets, rendezvous through c10d's TCPStore at MASTER_ADDR:MASTER_PORT.
#pragma once

#include <memory>
#include <string>

#include "comm/transport.h"

namespace acp::tcp {

// Who this process is and where the others meet.
struct Endpoint {
  int rank = 0, size = 1;
  std::string master_address = "127.0.0.1";
  int master_port = 29500;
  std::string interface;     // network interface to listen on; empty = the route to the master
  std::string secret;        // proof of membership; empty = one from the store
  std::string prefix;        // of the store's keys: run id and restart count under an elastic agent
  bool agent_store = false;  // an agent serves the store already: everybody is a client
  // Sockets per neighbour. More than one share no window, and together overflow the queue of a slow link (8 %
  // of 100 Mbit/s); they pay where one connection cannot fill a fast one.
  int streams = 1;
  bool local_sockets = true;  // ranks of one machine talk over sockets of the domain AF_UNIX
};

// From RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT (or a launcher's variables under mpirun), ACP_INTERFACE,
// ACP_SECRET, ACP_SHARED_MEMORY, ACP_STREAMS, TORCHELASTIC_*. ConfigError names a variable that is missing or
// no number.
Endpoint endpoint_from_environment();

// Meets the other ranks and opens the first channel. PeerError names who is missing at the deadline;
// ConfigError says which rank is claimed twice, lies beyond the world size, or that the port is taken.
std::unique_ptr<Transport> connect(const Endpoint& endpoint);

}  // namespace acp::tcp
