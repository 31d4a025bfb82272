// The tcp transport: one channel's sockets and the poll() that moves data over them.
#pragma once

#include <poll.h>

#include <atomic>
#include <map>
#include <memory>
#include <vector>

#include "comm/tcp/group.h"
#include "comm/tcp/stream.h"
#include "comm/transport.h"

namespace acp::tcp {

// Every channel has sockets of its own: a message that is late on one channel holds up nothing on another,
// and the channel's wire thread itself blocks in the kernel, so no dispatching thread stands between it and
// the data. A connection carries one direction. The sender opens it with its first message to that peer (the
// peer's service thread admits it and leaves it in the inbox), stream 0 first, the others with the first
// large message; so a channel costs two connections for each stream and neighbour that it really uses, and
// opening one costs nothing.
//
// All progress is made in send() and wait(), on sends and receives alike, so a ring of ranks in wait() moves.
// Any error fails the group: after it, nothing touches the memory of what was under way.
class Channel final : public Transport {
 public:
  explicit Channel(std::shared_ptr<Group> group);
  ~Channel() override;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  int rank() const override { return group_->rank(); }
  int size() const override { return group_->size(); }
  std::string_view backend() const override { return "tcp"; }
  Ticket send(int peer, std::span<const std::byte> data, int tag) override;
  Ticket receive(int peer, std::span<std::byte> data, int tag) override;
  void wait(Ticket ticket) override;
  std::unique_ptr<Transport> channel() override;
  void abort(std::exception_ptr reason) noexcept override { group_->fail(std::move(reason)); }
  std::uint64_t bytes_sent() const override { return bytes_sent_; }

 private:
  // The connections with one peer.
  struct Link {
    std::vector<OutStream> out;
    std::vector<InStream> in;
    std::uint64_t sent = 0, received = 0;  // messages, numbered
    bool busy = false;                     // listed in busy_
  };
  struct Pending {
    int peer;
    bool sends;
    int parts;  // still under way
  };

  struct Source {
    int peer;
    std::size_t stream;
    bool out;
  };

  Link& link(int peer);
  void mark_busy(int peer, Link& link);
  void finish(Ticket ticket);
  void adopt_arrivals();
  std::size_t write(int peer, OutStream& stream);
  std::size_t read(int peer, InStream& stream);
  void await(Ticket ticket);
  bool poll_once(Clock::time_point& deadline);
  void list_sources();
  void check_sender(int peer);
  [[noreturn]] void mismatch(int peer, const Frame& is, const InStream::Part& must);

  const std::shared_ptr<Group> group_;
  const Group::Opened own_;
  std::vector<std::unique_ptr<Link>> links_;  // by peer
  std::vector<int> busy_;                     // peers with parts in a queue
  std::vector<pollfd> fds_;                   // of the last poll(); the first two are not streams
  std::vector<Source> sources_;
  bool sleeps_long_ = false;  // some of them
  std::map<Ticket, Pending> pending_;
  Ticket last_ticket_ = 0;
  std::atomic<std::uint64_t> bytes_sent_ = 0;
};

}  // namespace acp::tcp
