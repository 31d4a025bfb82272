// Finding, opening and reaching the master's store.
#include "comm/tcp/master.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>

#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/log.h"
#include "comm/tcp/interface.h"

namespace acp::tcp {

std::string master_name(const Endpoint& endpoint) {
  return endpoint.master_address + ":" + std::to_string(endpoint.master_port) + " (MASTER_ADDR:MASTER_PORT)";
}

std::vector<Address> resolve_master(const Endpoint& endpoint, Clock::time_point deadline) {
  // A name may become known a little later than the processes start, but not much.
  const auto end = std::min(deadline, Clock::now() + std::chrono::seconds(10));
  for (;;) {
    try {
      return resolve(endpoint.master_address, endpoint.master_port);
    } catch (const std::runtime_error& e) {
      if (Clock::now() >= end) {
        throw ConfigError("MASTER_ADDR=\"" + endpoint.master_address + "\" cannot be resolved: " + e.what());
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }
}

// Rank 0's own store. Only a master named as loopback keeps the store on loopback: a host name may resolve to
// 127.0.1.1 here and to a real address elsewhere.
Store serve_store(const Endpoint& endpoint, const std::vector<Address>& master, const std::string& prefix) {
  const std::string& name = endpoint.master_address;
  const bool local = master[0].is_loopback() && (name == "localhost" || name == master[0].host());
  const auto listen = [&] {
    if (local) return listen_at(master[0]);
    try {
      return listen_at(Address::numeric("::", endpoint.master_port), true);
    } catch (const std::system_error& e) {
      if (e.code().value() == EADDRINUSE) throw;
      return listen_at(Address::numeric("0.0.0.0", endpoint.master_port));  // a system without IPv6
    }
  };
  try {
    Fd listener = listen();
    if (std::none_of(master.begin(), master.end(), is_own)) {
      log_warning("[tcp] rank 0: MASTER_ADDR=" + name +
                  " is no address of this machine; rank 0 must run on the master's machine");
    }
    return Store::serve(std::move(listener), prefix);
  } catch (const std::system_error& e) {
    throw ConfigError(
        "rank 0 cannot listen on " + master_name(endpoint) + ": " + error_text(e.code().value()) +
        (e.code().value() == EADDRINUSE
             ? "; another job uses this port, or rank 0 was started twice: choose another MASTER_PORT"
             : ""));
  } catch (const StoreLost& e) {
    throw CommunicationError("the store at " + master_name(endpoint) + " does not start: " + e.what());
  }
}

// Connects to the store as soon as it is there; `master` becomes the address that answered.
Store join_store(const Endpoint& endpoint, const std::vector<Address>& candidates, const std::string& prefix,
                 Clock::time_point deadline, Address& master) {
  std::string why = "no answer";
  for (auto pause = std::chrono::milliseconds(5);;
       pause = std::min(pause * 2, std::chrono::milliseconds(250))) {
    for (const Address& address : candidates) {
      try {
        // A plain connection first: c10d's retries would be slower and know no deadline of ours.
        connect_to(address, std::min(deadline, Clock::now() + std::chrono::seconds(5)));
        master = address;
        return Store::join(address, prefix, deadline);
      } catch (const std::system_error& e) {
        why = error_text(e.code().value());
      } catch (const std::runtime_error& e) {
        why = e.what();
      }
    }
    if (Clock::now() + pause >= deadline) break;
    std::this_thread::sleep_for(pause);
  }
  const std::string text =
      "the store at " + master_name(endpoint) + " could not be reached within " + timeout_text() + ": " + why;
  if (endpoint.agent_store) throw CommunicationError(text + "; the launcher's agent serves it");
  throw PeerError(0, text + "; rank 0 serves it: was it started, on that machine?");
}

}  // namespace acp::tcp
