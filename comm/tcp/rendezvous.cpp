// Arrival records, rank 0's verdict, and the words for everything that can go wrong before that.
#include "comm/tcp/rendezvous.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/log.h"
#include "comm/tcp/sha256.h"

namespace acp::tcp {

namespace {

using nlohmann::json;
using std::to_string;

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

std::string seconds(std::chrono::milliseconds time) {
  std::string text = to_string(static_cast<double>(time.count()) / 1000.0);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text + " s (ACP_TIMEOUT)";
}

std::string proof(const Endpoint& endpoint, const std::string& what) {
  return endpoint.secret.empty() ? "" : to_hex(to_bytes(hmac_sha256(endpoint.secret, "rendezvous|" + what)));
}

// One rank's record in the store.
struct Record {
  int rank, size;
  std::string host;  // name of its machine
  int pid;
  std::string address;
  int port;
  std::string proof;

  std::string who() const { return host + ", process " + to_string(pid); }
  std::string proven() const {
    return to_string(rank) + "|" + to_string(size) + "|" + address + "|" + to_string(port);
  }
};

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Record, rank, size, host, pid, address, port, proof)

Record own_record(const Endpoint& endpoint, const Address& address) {
  Record record{endpoint.rank,  endpoint.size,  host_name(), static_cast<int>(::getpid()),
                address.host(), address.port(), ""};
  record.proof = proof(endpoint, record.proven());
  return record;
}

std::string master_name(const Endpoint& endpoint) {
  return endpoint.master_address + ":" + to_string(endpoint.master_port) + " (MASTER_ADDR:MASTER_PORT)";
}

std::string beyond(int rank, int size) {
  return "rank " + to_string(rank) + " lies beyond the world size " + to_string(size) + ": ranks are 0 to " +
         to_string(size - 1);
}

std::string other_size(int rank, const std::string& who, int size, int size_of_0) {
  return "rank " + to_string(rank) + " (" + who + ") was started with world size " + to_string(size) +
         ", rank 0 with " + to_string(size_of_0) + ": give every rank the same WORLD_SIZE";
}

// Why rank 0 cannot take `record`, or nothing.
std::string objection(const Endpoint& endpoint, const Record& record,
                      const std::vector<std::optional<Record>>& members) {
  if (record.size != endpoint.size) {
    return other_size(record.rank, record.who(), record.size, endpoint.size);
  }
  if (record.rank < 0 || record.rank >= endpoint.size) {
    return beyond(record.rank, endpoint.size) + " (" + record.who() + ")";
  }
  if (const auto& other = members[static_cast<std::size_t>(record.rank)]) {
    return "rank " + to_string(record.rank) + " is claimed twice, by " + other->who() + " and by " +
           record.who() + ": give every process its own RANK";
  }
  if (record.proof != proof(endpoint, record.proven())) {
    return "rank " + to_string(record.rank) + " (" + record.who() +
           ") and rank 0 do not share one ACP_SECRET: set " + "the same on every rank, or on none";
  }
  return "";
}

// A master that another machine cannot mean: its own loopback address, while it has others.
void check_reach(const std::vector<std::optional<Record>>& members) {
  const auto loopback = [](const Record& r) { return Address::numeric(r.address, 0).is_loopback(); };
  for (const auto& a : members) {
    for (const auto& b : members) {
      if (loopback(*a) && a->host != b->host) {
        throw ConfigError(
            "rank " + to_string(a->rank) + " listens on " + a->address + ", which rank " +
            to_string(b->rank) + " on " + b->host +
            " cannot reach: set MASTER_ADDR to an address of rank 0's machine that the others use, "
            "or ACP_INTERFACE");
      }
    }
  }
}

class Rank0 {
 public:
  Rank0(const Endpoint& endpoint, Store& store, const Address& own)
      : endpoint_(endpoint), store_(store), members_(static_cast<std::size_t>(endpoint.size)) {
    members_[0] = own_record(endpoint, own);
  }

  // Takes the others in and returns the verdict that was given; throws when there can be no group.
  json collect(Clock::time_point deadline) {
    try {
      if (endpoint_.agent_store && store_.add("zero", 1, deadline) > 1) {
        const std::int64_t ticket = store_.add("arrivals", 1, deadline);
        store_.set("arrival/" + to_string(ticket), json(*members_[0]).dump(), deadline);
        throw ConfigError("rank 0 is claimed twice: give every process its own RANK");
      }
      json tickets = json::array({0});
      for (int i = 1; i < endpoint_.size; ++i) tickets.push_back(0);
      for (int ticket = 1; ticket < endpoint_.size; ++ticket) {
        const std::string key = "arrival/" + to_string(ticket);
        if (!store_.wait(key, deadline)) throw missing();
        const Record record = json::parse(store_.get(key, deadline)).get<Record>();
        const std::string why_not = objection(endpoint_, record, members_);
        if (!why_not.empty()) throw ConfigError(why_not);
        members_[static_cast<std::size_t>(record.rank)] = record;
        tickets[static_cast<std::size_t>(record.rank)] = ticket;
      }
      check_reach(members_);
      return accept(tickets, deadline);
    } catch (const PeerError& e) {
      refuse({{"missing", e.peer()}, {"error", e.what()}});
      throw;
    } catch (const ConfigError& e) {
      refuse({{"error", e.what()}});
      throw;
    } catch (const json::exception& e) {
      const std::string text =
          "another program uses the store at " + master_name(endpoint_) + ": " + e.what();
      refuse({{"error", text}});
      throw ConfigError(text);
    }
  }

 private:
  json accept(const json& tickets, Clock::time_point deadline) {
    json verdict = {{"size", endpoint_.size}, {"tickets", tickets}, {"members", json::array()}};
    for (const auto& member : members_) verdict["members"].push_back(*member);
    verdict["salt"] = to_hex(random_bytes(32));
    // With a secret of the user the salt is no secret: both make the group's key. Without, the salt is the
    // key.
    verdict["proof"] = proof(endpoint_, verdict["salt"].get<std::string>() + verdict["members"].dump());
    store_.set("verdict", verdict.dump(), deadline);
    return verdict;
  }

  PeerError missing() const {
    std::string names;
    int count = 0;
    int first = -1;
    for (int r = 1; r < endpoint_.size; ++r) {
      if (members_[static_cast<std::size_t>(r)]) continue;
      if (first < 0) first = r;
      if (++count <= 8) names += (count > 1 ? ", " : "") + to_string(r);
    }
    if (count > 8) names += ", ...";
    return {first, (count == 1 ? "rank " : "ranks ") + names + " of " + to_string(endpoint_.size) +
                       " did not come to " + master_name(endpoint_) + " within " + seconds(wait_timeout()) +
                       "; not started, or told another master"};
  }

  // Tells the others, and stays until they have read it, or a few seconds.
  void refuse(const json& verdict) noexcept {
    try {
      const auto end = Clock::now() + std::chrono::seconds(3);
      store_.set("verdict", verdict.dump(), end);
      for (int ticket = 1; ticket < endpoint_.size && store_.wait("read/" + to_string(ticket), end);
           ++ticket) {
      }
    } catch (const std::exception&) {  // the store is gone: nobody is left to be told
    }
  }

  const Endpoint& endpoint_;
  Store& store_;
  std::vector<std::optional<Record>> members_;
};

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
Store serve(const Endpoint& endpoint, const std::vector<Address>& master, const std::string& prefix) {
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
Store join(const Endpoint& endpoint, const std::vector<Address>& candidates, const std::string& prefix,
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
  const std::string text = "the store at " + master_name(endpoint) + " could not be reached within " +
                           seconds(wait_timeout()) + ": " + why;
  if (endpoint.agent_store) throw CommunicationError(text + "; the launcher's agent serves it");
  throw PeerError(0, text + "; rank 0 serves it: was it started, on that machine?");
}

Interface listen_for_peers(const Endpoint& endpoint, const Address& master, Fd& listener) {
  Interface own = choose_interface(endpoint.interface, master);
  try {
    listener = listen_at(own.address);
    own.address = Address::local_of(listener.get());
  } catch (const std::system_error& e) {
    throw CommunicationError("cannot listen on " + own.address.host() + " (" + own.name +
                             "): " + error_text(e.code().value()));
  }
  return own;
}

// What a rank other than 0 (or, under an agent, any other) does: leaves its record, waits for the verdict.
json attend(const Endpoint& endpoint, Store& store, const Address& own, Clock::time_point deadline) {
  const std::int64_t ticket = store.add("arrivals", 1, deadline);
  const Record record = own_record(endpoint, own);
  store.set("arrival/" + to_string(ticket), json(record).dump(), deadline);
  // Rank 0's deadline may be a little later than ours, and it knows who is missing.
  if (!store.wait("verdict", deadline + std::chrono::seconds(5))) {
    throw PeerError(0,
                    "rank 0 did not come to " + master_name(endpoint) + " within " + seconds(wait_timeout()));
  }
  json verdict = json::parse(store.get("verdict", deadline));
  store.set("read/" + to_string(ticket), "", deadline);
  if (verdict.contains("error")) {
    const auto text = verdict["error"].get<std::string>();
    if (verdict.contains("missing")) throw PeerError(verdict["missing"].get<int>(), text);
    throw ConfigError(text);
  }
  const int size = verdict.at("size");
  if (size != endpoint.size) {
    throw ConfigError(other_size(endpoint.rank, record.who(), endpoint.size, size));
  }
  if (endpoint.rank >= size) throw ConfigError(beyond(endpoint.rank, size));
  const auto at = static_cast<std::size_t>(endpoint.rank);
  if (verdict.at("tickets").at(at) != ticket) {
    // That group may just be ending, and its store with it; then the next one is meant.
    store.wait("never", Clock::now() + std::chrono::seconds(1));
    throw ConfigError("rank " + to_string(endpoint.rank) + " is claimed twice, by " +
                      verdict.at("members").at(at).get<Record>().who() + " and by " + record.who() +
                      ": give every process its own RANK, and every job its own MASTER_PORT");
  }
  if (verdict.at("proof") !=
      proof(endpoint, verdict.at("salt").get<std::string>() + verdict.at("members").dump())) {
    throw ConfigError("rank " + to_string(endpoint.rank) +
                      " and rank 0 do not share one ACP_SECRET: set the same " + "on every rank, or on none");
  }
  return verdict;
}

void take(const Endpoint& endpoint, const json& verdict, Meeting& meeting) {
  for (const json& member : verdict.at("members")) {
    const auto record = member.get<Record>();
    meeting.members.push_back(Address::numeric(record.address, record.port));
  }
  meeting.secret = to_bytes(hmac_sha256(endpoint.secret, verdict.at("salt").get<std::string>()));
}

Meeting try_to_meet(const Endpoint& endpoint, Clock::time_point deadline) {
  const std::string prefix = "acp/" + endpoint.prefix + "/";
  const std::vector<Address> candidates = resolve_master(endpoint, deadline);
  Meeting meeting;
  for (;;) {
    try {
      Address master = candidates[0];
      const bool serves = endpoint.rank == 0 && !endpoint.agent_store;
      Store store =
          serves ? serve(endpoint, candidates, prefix) : join(endpoint, candidates, prefix, deadline, master);
      meeting.own = listen_for_peers(endpoint, master, meeting.listener);
      const json verdict = endpoint.rank == 0 ? Rank0(endpoint, store, meeting.own.address).collect(deadline)
                                              : attend(endpoint, store, meeting.own.address, deadline);
      take(endpoint, verdict, meeting);
      if (endpoint.rank == 0) meeting.store = store;
      return meeting;
    } catch (const StoreLost& e) {
      // The store of a group that has just ended, or a rank 0 that was started anew: what comes next is ours.
      if (Clock::now() >= deadline) {
        throw PeerError(0, "the store at " + master_name(endpoint) + " broke off: " + e.what());
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    } catch (const StoreSilent&) {
      throw PeerError(0, "the store at " + master_name(endpoint) + " does not answer (within " +
                             seconds(wait_timeout()) + "): its process is stopped, or no store");
    } catch (const json::exception& e) {
      throw ConfigError("another program uses the store at " + master_name(endpoint) + ": " + e.what());
    }
  }
}

}  // namespace

Meeting meet(const Endpoint& endpoint) {
  if (endpoint.rank < endpoint.size) return try_to_meet(endpoint, Clock::now() + wait_timeout());
  // It has no place, but the others shall hear of it too, if they are there.
  const auto patience = std::min<std::chrono::milliseconds>(wait_timeout(), std::chrono::seconds(10));
  try {
    return try_to_meet(endpoint, Clock::now() + patience);
  } catch (const CommunicationError&) {
    throw ConfigError(beyond(endpoint.rank, endpoint.size));
  }
}

void forget(Store& store, int size) {
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  for (int ticket = 1; ticket < size; ++ticket) {
    store.erase("arrival/" + to_string(ticket), deadline);
    store.erase("read/" + to_string(ticket), deadline);
  }
  for (const char* key : {"arrivals", "zero", "verdict"}) store.erase(key, deadline);
}

}  // namespace acp::tcp
