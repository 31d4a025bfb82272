// The user's collectives in the order of the calls, blocking or not, on one channel.
#pragma once

#include <ATen/core/Tensor.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "comm/communicator.h"

namespace acp {

// Some calls need several messages one after the other (all_gather first asks for sizes). So that an
// asynchronous one neither blocks its caller nor lets a later call slip in between, each call is one piece of
// work, and pieces run one after the other: in the queue's thread, or in the caller's when nothing is queued.
// The thread starts with the first asynchronous call. Errors go to whoever waits for the piece. Callers: one
// thread at a time.
class UserQueue {
 public:
  using Work = std::function<at::Tensor(Communicator&)>;

  explicit UserQueue(Communicator& channel) : channel_(channel) {}
  ~UserQueue();  // after the work that is queued (which ends, at the latest, by the deadlines)
  UserQueue(const UserQueue&) = delete;
  UserQueue& operator=(const UserQueue&) = delete;

  // Queues `work`. It must own what it works on.
  std::future<at::Tensor> start(Work work);

  // Performs `work` after everything queued before; returns its result or throws.
  at::Tensor run(const Work& work);

  // Returns when nothing is queued or under way.
  void drain();

 private:
  void loop(const std::stop_token& stop);

  Communicator& channel_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::packaged_task<at::Tensor()>> queue_;
  bool busy_ = false;
  std::jthread thread_;  // last: ends before what it uses
};

}  // namespace acp
