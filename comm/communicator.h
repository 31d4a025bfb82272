// What a backend offers to the rest: ranks that perform the same collectives in the same order.
#pragma once

#include <cstdint>
#include <exception>
#include <future>
#include <memory>
#include <string_view>

#include "comm/collective.h"

namespace acp {

// One channel of communication among `size()` ranks. Every rank starts the same operations in the same order;
// operations of different channels are independent of each other.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Queues `op` and returns at once. The future is ready when `op.out` holds the result, or carries an
  // exception derived from acp::Error. May be called from any thread, but from one at a time.
  virtual std::future<void> start(Collective op) = 0;

  // Performs `op` and returns when `op.out` holds the result; throws what the future of start() would carry.
  // The caller's thread does the work where that is possible, which saves two changes of thread; what was
  // started before comes first. Callers as for start().
  virtual void perform(Collective op) { start(std::move(op)).get(); }

  // Opens an independent order of operations among the same ranks. A collective call: every rank calls it at
  // the same place of its program.
  virtual std::unique_ptr<Communicator> channel() = 0;

  // Fails queued and later operations of this backend, here and on the peers, with `reason`. Callable from
  // any thread, never throws; the first reason stands.
  virtual void abort(std::exception_ptr reason) noexcept = 0;

  // Throws the first failure, if there was one that no future has told: of operations that go on after their
  // future is ready (nccl: on the GPU).
  virtual void check() const {}

  // "local", "mpi", "tcp", "nccl"
  virtual std::string_view backend() const = 0;

  // Of this channel so far: bytes that this rank's point-to-point layer has sent, and the time that it took.
  // Native collectives count their algorithm's known volume and set `estimated`.
  struct Traffic {
    std::uint64_t bytes_sent = 0;
    bool estimated = false;
    double seconds = 0;  // that operations were being performed, waiting for the peers included
  };
  virtual Traffic traffic() const = 0;
};

inline void perform(Communicator& communicator, Collective op) {
  communicator.perform(std::move(op));
}

}  // namespace acp
