// Point-to-point messages between the ranks of one channel: all that a CPU backend has to provide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string_view>

#include "comm/collective.h"

namespace acp {

// Identifies a started send or receive; 0 is «already complete».
using Ticket = std::uint64_t;

// Used by one thread at a time (the channel's wire thread), except abort(). Messages between two ranks of a
// channel arrive in the order of sending, each whole: the k-th receive from a peer takes the k-th send of
// that peer.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string_view backend() const = 0;

  // Starts sending to / receiving from `peer` (never this rank itself) and returns at once; the memory stays
  // valid and untouched until wait(). `tag` (0 .. 32767) and the length are compared with what the other side
  // expects: a difference means that the ranks do different things, and fails the operation on the receiver
  // with an error that says so. Messages of 0 bytes are allowed.
  virtual Ticket send(int peer, std::span<const std::byte> data, int tag) = 0;
  virtual Ticket receive(int peer, std::span<std::byte> data, int tag) = 0;

  // Blocks (in the kernel, or with back-off; never spinning for more than some microseconds) until done.
  // Throws PeerError when the peer is gone or the deadline (comm/deadline.h) passes without progress, and the
  // reason of an abort. Tickets may be waited for in any order, so all started messages move while one is
  // waited for. After it has thrown the channel is of no more use; memory of open tickets stays valid until
  // the destructor returns.
  virtual void wait(Ticket ticket) = 0;

  // Performs `op` by the backend's own collective and returns true, or returns false where it has none.
  virtual bool native(const Collective& op);

  // Whether `automatic` should take the backend's own collective for `op`. Same answer on all ranks.
  virtual bool prefers_native(const Collective& op) const;

  // Opens another channel among the same ranks; a collective call.
  virtual std::unique_ptr<Transport> channel() = 0;

  // Fails pending and later operations of every channel of this backend, here and on the peers. Any thread.
  virtual void abort(std::exception_ptr reason) noexcept = 0;

  // Payload bytes handed to send() on this channel (headers not counted).
  virtual std::uint64_t bytes_sent() const = 0;

  // Whether send() and receive() take memory of a GPU.
  virtual bool reaches_device() const { return false; }

  // Whether some of these were counted by the known volume of a native collective.
  virtual bool bytes_estimated() const { return false; }
};

inline bool Transport::native(const Collective&) {
  return false;
}
inline bool Transport::prefers_native(const Collective&) const {
  return false;
}

}  // namespace acp
