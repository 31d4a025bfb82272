// A Communicator over any Transport: one wire thread that performs queued collectives first in, first out.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "comm/communicator.h"
#include "comm/transport.h"

namespace acp {

// Owns its transport and one thread, which ends with the object. Errors name backend, rank, operation and
// label:
// "[tcp] rank 1: peer 3 closed the connection during all_reduce of 4 MiB (step 120, bucket 2: layer3.weight
// ...)".
class WireCommunicator final : public Communicator {
 public:
  explicit WireCommunicator(std::unique_ptr<Transport> transport);
  ~WireCommunicator() override;

  int rank() const override;
  int size() const override;
  std::future<void> start(Collective op) override;
  std::unique_ptr<Communicator> channel() override;
  void abort(std::exception_ptr reason) noexcept override;
  std::string_view backend() const override;
  Traffic traffic() const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace acp
