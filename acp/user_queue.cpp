// The thread behind asynchronous collectives.
#include "acp/user_queue.h"

#include <c10/core/GradMode.h>

#include <utility>

namespace acp {

UserQueue::~UserQueue() {
  drain();
}

std::future<at::Tensor> UserQueue::start(Work work) {
  std::packaged_task<at::Tensor()> task([&channel = channel_, work = std::move(work)]() mutable {
    // The work's tensors go with it, before the waiter learns of the result.
    const Work mine = std::exchange(work, nullptr);
    return mine(channel);
  });
  std::future<at::Tensor> result = task.get_future();
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(task));
  if (!thread_.joinable()) thread_ = std::jthread([this](const std::stop_token& stop) { loop(stop); });
  changed_.notify_all();
  return result;
}

at::Tensor UserQueue::run(const Work& work) {
  drain();
  const c10::NoGradGuard no_grad;
  return work(channel_);
}

void UserQueue::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return queue_.empty() && !busy_; });
}

void UserQueue::loop(const std::stop_token& stop) {
  const c10::NoGradGuard no_grad;
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [&] { return !queue_.empty(); })) {
    auto task = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    task();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace acp
