// A Communicator over any Transport: one wire thread that performs queued collectives first in, first out.
#pragma once

#include <memory>

#include "comm/algorithms/algorithms.h"
#include "comm/communicator.h"
#include "comm/transport.h"

namespace acp {

// Owns its transport and one thread, which ends with the object. One thread at a time uses the transport:
// that one, or a caller of perform(). Errors name backend, rank, operation and label:
// "[tcp] rank 1: peer 3 closed the connection during all_reduce of 4 MiB float32 (step 120, bucket 2:
// layer3.weight)". What is wrong with an operation alone (ConfigError) fails that operation, before a message
// is sent; any other failure also fails what comes later on this channel, with the first reason.
//
// The destructor lets queued operations end, as long as the peers perform them too; what has not ended a
// moment later is aborted (on the whole backend, so that no peer waits for it) and its future gets an error.
class WireCommunicator final : public Communicator {
 public:
  explicit WireCommunicator(std::unique_ptr<Transport> transport, const Tuning& tuning = {});
  ~WireCommunicator() override;

  int rank() const override;
  int size() const override;
  std::future<void> start(Collective op) override;
  // On the calling thread, unless something is queued or under way.
  void perform(Collective op) override;
  std::unique_ptr<Communicator> channel() override;
  void abort(std::exception_ptr reason) noexcept override;
  std::string_view backend() const override;
  Traffic traffic() const override;

  // As channel(), with sizes of its own.
  std::unique_ptr<Communicator> channel(const Tuning& tuning);

  // Other sizes from now on, also for the channels opened from here. Every rank calls it with the same ones
  // while nothing is under way.
  void tune(const Tuning& tuning);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace acp
