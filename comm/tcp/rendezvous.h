// How the ranks find each other: through a store at the master's address, watched by rank 0.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/tcp/interface.h"
#include "comm/tcp/socket.h"
#include "comm/tcp/store.h"
#include "comm/tcp/tcp.h"

namespace acp::tcp {

// What a rank knows when all have met.
struct Meeting {
  Fd listener;                   // where the others reach this rank
  Fd local_listener;             // and those on this machine; none if it has no such sockets
  Interface own;                 // the same, as an address, with the interface's name
  std::vector<Address> members;  // where each rank listens
  std::vector<std::optional<Address>> neighbours;  // the same, of the ranks on this machine
  std::string secret;          // of this group alone; what proofs of membership are made with
  std::optional<Store> store;  // on the rank that serves it: kept, so that late claims are told why not
};

// Rank 0 opens the store (or an agent has), every rank leaves a record there (rank, world size, address,
// proof of ACP_SECRET) under a number of arrival, rank 0 takes them in that order, and answers all with one
// verdict: the list of members, or why not. PeerError names the ranks that are missing at the deadline;
// ConfigError says which rank is claimed twice, lies beyond the world size, was told another world size or
// secret, on every rank that is there, or that the port is taken.
Meeting meet(const Endpoint& endpoint);

// Called by rank 0 once all have read the verdict. Takes the group's secret out of its own store, which goes
// on to tell late comers that they are too late; clears an agent's, so that the next group under the same
// prefix finds nothing of this one.
void seal(const Endpoint& endpoint, Store& store);

}  // namespace acp::tcp
