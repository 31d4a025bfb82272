// An NCCL communicator with its stream, and the thread that watches over what is under way on it.
#pragma once

#include <nccl.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>

#include "comm/collective.h"
#include "comm/communicator.h"
#include "comm/nccl/backend.h"
#include "comm/streams.h"

namespace acp::nccl {

// Owns one thread, which ends with the object. start() from one thread at a time.
class Clique {
 public:
  // A collective call. `host` carries the identifier; it is used during the call alone. Blocks until all
  // ranks have come; throws at the deadline.
  Clique(Backend& backend, Communicator& host, at::Device device);
  // Lets what is under way end for 2 s, else aborts it.
  ~Clique();
  Clique(const Clique&) = delete;
  Clique& operator=(const Clique&) = delete;

  at::Device device() const { return stream_.device(); }

  // Queues `op`, checked, behind what the calling thread has asked of the device; the mark is its end.
  MarkPtr start(const Collective& op);

  // That operations were at work, of those that have ended.
  double seconds() const;

 private:
  struct Operation;
  using Clock = std::chrono::steady_clock;

  void settle(const char* call, Clock::time_point deadline);
  void watch(const std::stop_token& stop);
  void reap();
  void look();
  void give_up(const Failure& failure);

  Backend& backend_;
  const c10::Stream stream_;
  ncclComm_t comm_ = nullptr;

  mutable std::mutex mutex_;  // guards what follows, and all calls with comm_
  std::condition_variable_any changed_;
  std::deque<Operation> under_way_;
  Clock::time_point progress_;  // something has ended, or begun where nothing was under way
  double seconds_ = 0;
  bool aborted_ = false;
  std::jthread watch_;  // last: it uses all of the above
};

}  // namespace acp::nccl
