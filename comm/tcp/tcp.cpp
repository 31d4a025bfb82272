// The backend's front door: rendezvous, control connections, first channel.
#include "comm/tcp/tcp.h"

#include <string>

#include "comm/error.h"
#include "comm/log.h"
#include "comm/tcp/channel.h"
#include "comm/tcp/group.h"
#include "comm/tcp/rendezvous.h"

namespace acp::tcp {

namespace {

void check(const Endpoint& e) {
  const auto fail = [](const std::string& text) { throw ConfigError("[tcp] " + text); };
  if (e.size < 1) fail("the world size is " + std::to_string(e.size) + "; it must be at least 1");
  if (e.rank < 0) fail("the rank is " + std::to_string(e.rank) + "; ranks are 0 to world size - 1");
  if (e.size == 1 && e.rank > 0) fail("rank " + std::to_string(e.rank) + " lies beyond the world size 1");
  if (e.master_port < 1 || e.master_port > 65535) {
    fail("the master's port is " + std::to_string(e.master_port) + "; ports are 1 to 65535");
  }
  if (e.streams < 1 || e.streams > 64) {
    fail(std::to_string(e.streams) + " streams for each neighbour; there can be 1 to 64");
  }
}

// Alone there is nobody to meet.
class Alone final : public Transport {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string_view backend() const override { return "tcp"; }
  Ticket send(int peer, std::span<const std::byte>, int) override { nobody(peer); }
  Ticket receive(int peer, std::span<std::byte>, int) override { nobody(peer); }
  void wait(Ticket) override {}
  std::unique_ptr<Transport> channel() override { return std::make_unique<Alone>(); }
  void abort(std::exception_ptr) noexcept override {}
  std::uint64_t bytes_sent() const override { return 0; }

 private:
  [[noreturn]] static void nobody(int peer) {
    throw ConfigError("there is no rank " + std::to_string(peer) + " in a world of 1");
  }
};

// An exception of this library with "[tcp] rank 1: " in front.
template <class Call>
auto with_rank(const Endpoint& endpoint, Call call) -> decltype(call()) {
  const std::string where = "[tcp] rank " + std::to_string(endpoint.rank) + ": ";
  try {
    return call();
  } catch (const PeerError& e) {
    throw PeerError(e.peer(), where + e.what());
  } catch (const CommunicationError& e) {
    throw CommunicationError(where + e.what());
  } catch (const ConfigError& e) {
    throw ConfigError(where + e.what());
  }
}

std::unique_ptr<Transport> join_group(const Endpoint& endpoint) {
  Meeting meeting = meet(endpoint);
  log_info("[tcp] rank " + std::to_string(endpoint.rank) + " of " + std::to_string(endpoint.size) + ": " +
           meeting.own.address.text() + " (" + meeting.own.name + ")");
  std::optional<Store> store = meeting.store;
  if (endpoint.agent_store) meeting.store.reset();
  const auto group = std::make_shared<Group>(endpoint, std::move(meeting));
  try {
    group->connect_controls();
    if (store) seal(endpoint, *store);
  } catch (...) {
    group->fail(std::current_exception());
    group->rethrow();
  }
  return std::make_unique<Channel>(group);
}

}  // namespace

std::unique_ptr<Transport> connect(const Endpoint& endpoint) {
  check(endpoint);
  if (endpoint.size == 1) return std::make_unique<Alone>();
  return with_rank(endpoint, [&] { return join_group(endpoint); });
}

}  // namespace acp::tcp
