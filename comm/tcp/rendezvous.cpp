// Arrival records, rank 0's verdict, and the words for everything that can go wrong before that.
#include "comm/tcp/rendezvous.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/host.h"
#include "comm/log.h"
#include "comm/tcp/master.h"
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
  std::string machine, local;  // its kernel and network, and the name of its socket there
  std::string proof;

  std::string who() const { return host + ", process " + to_string(pid); }
  std::string proven() const {
    return to_string(rank) + "|" + to_string(size) + "|" + address + "|" + to_string(port) + "|" + machine +
           "|" + local;
  }
};

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Record, rank, size, host, pid, address, port, machine, local, proof)

// Processes with the same text reach each other's sockets of the domain AF_UNIX.
std::string machine_identity() {
  std::error_code none;
  return host_identity() + " " + std::filesystem::read_symlink("/proc/self/ns/net", none).string();
}

// Where a rank listens.
struct Places {
  Address address;
  std::string local;  // empty: not for the ranks of its machine in particular
};

Record own_record(const Endpoint& endpoint, const Places& places) {
  Record record{endpoint.rank,
                endpoint.size,
                host_name(),
                static_cast<int>(::getpid()),
                places.address.host(),
                places.address.port(),
                machine_identity(),
                places.local,
                ""};
  record.proof = proof(endpoint, record.proven());
  return record;
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
  Rank0(const Endpoint& endpoint, Store& store, const Places& own)
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
                       " did not come to " + master_name(endpoint_) + " within " + timeout_text() +
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

// Nobody guesses the name, and who did would still have to know the group's secret.
std::string listen_for_neighbours(Fd& listener) {
  std::string name = "acp-" + to_hex(random_bytes(16));
  try {
    listener = listen_at(Address::on_this_machine(name));
    return name;
  } catch (const std::system_error& e) {
    log_debug("[tcp] no sockets of this machine (" + error_text(e.code().value()) + ")");
    return "";
  }
}

// What a rank other than 0 (or, under an agent, any other) does: leaves its record, waits for the verdict.
json attend(const Endpoint& endpoint, Store& store, const Places& own, Clock::time_point deadline) {
  const std::int64_t ticket = store.add("arrivals", 1, deadline);
  const Record record = own_record(endpoint, own);
  store.set("arrival/" + to_string(ticket), json(record).dump(), deadline);
  // Rank 0's deadline may be a little later than ours, and it knows who is missing.
  if (!store.wait("verdict", deadline + std::chrono::seconds(5))) {
    throw PeerError(0, "rank 0 did not come to " + master_name(endpoint) + " within " + timeout_text());
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
  const std::string machine = machine_identity();
  for (const json& member : verdict.at("members")) {
    const auto record = member.get<Record>();
    meeting.members.push_back(Address::numeric(record.address, record.port));
    const bool near = endpoint.local_sockets && !record.local.empty() && record.machine == machine;
    meeting.neighbours.push_back(near ? std::optional(Address::on_this_machine(record.local)) : std::nullopt);
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
      Store store = serves ? serve_store(endpoint, candidates, prefix)
                           : join_store(endpoint, candidates, prefix, deadline, master);
      meeting.own = listen_for_peers(endpoint, master, meeting.listener);
      Places places{meeting.own.address, ""};
      if (endpoint.local_sockets) places.local = listen_for_neighbours(meeting.local_listener);
      const json verdict = endpoint.rank == 0 ? Rank0(endpoint, store, places).collect(deadline)
                                              : attend(endpoint, store, places, deadline);
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
                             timeout_text() + "): its process is stopped, or no store");
    } catch (const json::exception& e) {
      throw ConfigError("another program uses the store at " + master_name(endpoint) + ": " + e.what());
    }
  }
}

}  // namespace

Meeting meet(const Endpoint& endpoint) {
  // Now, not when the master has been found: a wrong name ends all ranks at once.
  if (!endpoint.interface.empty()) choose_interface(endpoint.interface, Address());
  if (endpoint.rank < endpoint.size) return try_to_meet(endpoint, Clock::now() + wait_timeout());
  // It has no place, but the others shall hear of it too, if they are there.
  const auto patience = std::min<std::chrono::milliseconds>(wait_timeout(), std::chrono::seconds(10));
  try {
    return try_to_meet(endpoint, Clock::now() + patience);
  } catch (const CommunicationError&) {
    throw ConfigError(beyond(endpoint.rank, endpoint.size));
  }
}

void seal(const Endpoint& endpoint, Store& store) try {
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  if (!endpoint.agent_store) {
    json verdict = json::parse(store.get("verdict", deadline));
    verdict.erase("salt");
    verdict.erase("proof");
    store.set("verdict", verdict.dump(), deadline);
    return;
  }
  for (int ticket = 1; ticket < endpoint.size; ++ticket) {
    store.erase("arrival/" + to_string(ticket), deadline);
    store.erase("read/" + to_string(ticket), deadline);
  }
  for (const char* key : {"arrivals", "zero", "verdict"}) store.erase(key, deadline);
} catch (const std::exception& e) {
  log_warning("[tcp] rank 0: the store at " + master_name(endpoint) + " could not be tidied: " + e.what());
}

}  // namespace acp::tcp
