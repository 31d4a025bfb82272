// A device that is none: copies between tensors of the host, late and on threads of their own.
#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <vector>

#include "comm/staged/copies.h"

namespace acp::test {

// Set once, by the thread that copies.
class Flag final : public Mark {
 public:
  bool reached() const override { return set_; }
  void join() const override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return set_.load(); });
  }
  void set() {
    const std::lock_guard lock(mutex_);
    set_ = true;
    changed_.notify_all();
  }

 private:
  std::atomic<bool> set_ = false;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
};

// One direction: first in, first out, each after a pause.
class SlowLane {
 public:
  using Copies = std::vector<DeviceCopies::Copy>;

  explicit SlowLane(unsigned seed)
      : random_(seed), thread_([this](const std::stop_token& stop) { loop(stop); }) {}

  MarkPtr add(Copies copies, MarkPtr after) {
    auto done = std::make_shared<Flag>();
    const std::lock_guard lock(mutex_);
    queue_.push_back({std::move(copies), std::move(after), done});
    changed_.notify_all();
    return done;
  }

 private:
  struct Job {
    Copies copies;
    MarkPtr after;
    std::shared_ptr<Flag> done;
  };

  void loop(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (changed_.wait(lock, stop, [&] { return !queue_.empty(); })) {
      const Job job = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      join(job.after);
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 40));
      for (const auto& [to, from] : job.copies) to.copy_(from);
      job.done->set();
      lock.lock();
    }
  }

  std::minstd_rand random_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Job> queue_;
  std::jthread thread_;  // last: it uses all of the above
};

// Tensors that `elsewhere` names are taken for a device's.
class SlowCopies : public DeviceCopies {
 public:
  using Predicate = std::function<bool(const at::Tensor&)>;
  explicit SlowCopies(Predicate elsewhere = [](const at::Tensor&) { return true; })
      : elsewhere_(std::move(elsewhere)) {}

  std::shared_ptr<DeviceCopies> another() const override { return std::make_shared<SlowCopies>(elsewhere_); }
  bool elsewhere(const at::Tensor& x) const override { return x.defined() && elsewhere_(x); }
  MarkPtr mark(const at::Tensor&) const override { return nullptr; }
  at::Tensor host_bytes(std::int64_t bytes) override { return at::full({bytes}, 99, at::kByte); }
  MarkPtr down(std::span<const Copy> copies, const MarkPtr& after) override {
    if (copies.empty()) return nullptr;
    return down_.add({copies.begin(), copies.end()}, after);
  }
  MarkPtr up(std::span<const Copy> copies, const MarkPtr& after) override {
    if (copies.empty()) return nullptr;
    return up_.add({copies.begin(), copies.end()}, after);
  }

 private:
  Predicate elsewhere_;
  SlowLane down_{1}, up_{2};
};

}  // namespace acp::test
