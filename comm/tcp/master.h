// The store at the master's address: opened by rank 0, or reached as soon as it is there.
#pragma once

#include <string>
#include <vector>

#include "comm/tcp/socket.h"
#include "comm/tcp/store.h"
#include "comm/tcp/tcp.h"

namespace acp::tcp {

// "node7:29500 (MASTER_ADDR:MASTER_PORT)"
std::string master_name(const Endpoint& endpoint);

// The master's addresses; ConfigError when its name stays unknown for some seconds.
std::vector<Address> resolve_master(const Endpoint& endpoint, Clock::time_point deadline);

// Opens the store on this machine. ConfigError when the port is taken.
Store serve_store(const Endpoint& endpoint, const std::vector<Address>& master, const std::string& prefix);

// Connects to the store, trying again until the deadline; `master` becomes the address that answered.
// PeerError for rank 0, who should serve it (CommunicationError under an agent).
Store join_store(const Endpoint& endpoint, const std::vector<Address>& candidates, const std::string& prefix,
                 Clock::time_point deadline, Address& master);

}  // namespace acp::tcp
