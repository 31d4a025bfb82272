// What all channels of one rank share: the others' addresses, a control connection to each, the service
// thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/failure.h"
#include "comm/tcp/handshake.h"
#include "comm/tcp/rendezvous.h"
#include "comm/tcp/socket.h"

namespace acp::tcp {

// Where the service thread leaves connections that peers have opened for a channel, and where it looks when a
// peer asks what that channel is waiting for. Shared by both threads.
struct Inbox {
  struct Arrival {
    int peer, stream;
    Fd fd;
  };
  std::mutex mutex;
  std::vector<Arrival> arrivals;
  Wake wake;                          // notified with each arrival
  std::atomic<int> waiting_for = -1;  // the peer, while the channel's thread waits for one
};

// Owned by the channels together. The service thread starts with the object, ends in the destructor, and
// alone reads from the listening socket, from connections under handshake, and from the control connections;
// it blocks in poll(). Every pair of ranks has one control connection, on which they announce an abort or a
// farewell and ask each other whom they wait for; when it ends without a farewell, the peer is gone, and
// everything fails.
class Group {
 public:
  Group(const Endpoint& endpoint, Meeting meeting);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int streams() const { return streams_; }

  // Opens the control connections; called once, by the thread that makes the group. PeerError.
  void connect_controls();

  // Channels are numbered in the order of opening, which is the same on all ranks.
  struct Opened {
    std::uint32_t number;
    std::shared_ptr<Inbox> inbox;
  };
  Opened open_channel();
  void close_channel(std::uint32_t number);

  // A connection of this channel to `peer`, admitted by its service thread. PeerError, or the reason of a
  // failure.
  Fd dial(int peer, std::uint32_t channel, std::uint32_t stream);

  // The first reason stands, is told to all peers, and ends every wait of every channel.
  void fail(const std::exception_ptr& reason) noexcept { fail(Failure::of(reason)); }
  void fail(const Failure& reason) noexcept;
  bool failed() const noexcept { return failed_.load(std::memory_order_acquire); }
  [[noreturn]] void rethrow() const;
  // Readable from fail() on, for ever.
  int failure_fd() const { return failure_.fd(); }

  // Whether `peer` has said farewell; what it had opened before lies in the inboxes then.
  bool has_left(int peer) const;
  // A data connection to `peer` has ended: throws what the control connection says about it, which may take a
  // moment to arrive.
  [[noreturn]] void explain(int peer, const std::string& what);
  // The deadline has passed while waiting for `peer`: follows the chain of who waits for whom to its end, and
  // throws a PeerError with the rank found there.
  [[noreturn]] void deadline_passed(int peer, std::uint32_t channel);

 private:
  struct Control;
  enum class State { absent, present, left, gone };

  Fd call(int peer, Clock::time_point deadline);
  void serve();
  void serve_once();
  void accept_all(int listener);
  void admit(Guest& guest);
  void install(int peer, Fd fd);
  void read_control(int peer);
  void handle(int peer, int type, int a, int b, const std::string& text);
  void lose(int peer, const std::string& why);
  bool fail_quietly(const Failure& reason) noexcept;
  void tell(int peer, int type, int a, int b, const std::string& text) noexcept;
  int ask(int peer, std::uint32_t channel);

  const int rank_, size_, streams_;
  Meeting meeting_;
  std::vector<std::unique_ptr<Control>> controls_;  // by rank; fixed after construction
  Wake wake_;                                       // of the service thread
  Wake failure_;
  std::atomic<bool> failed_ = false, stopping_ = false;

  mutable std::mutex mutex_;  // guards what follows, and State
  std::condition_variable changed_;
  std::optional<Failure> reason_;
  std::map<std::uint32_t, std::shared_ptr<Inbox>> inboxes_;  // open here, or opened by a peer that is ahead
  std::uint32_t next_channel_ = 0;
  std::map<std::pair<int, std::uint32_t>, int> answers_;  // by peer and channel

  std::vector<Guest> guests_;  // of the service thread alone
  Clock::time_point listen_again_{};
  std::jthread service_;
};

}  // namespace acp::tcp
