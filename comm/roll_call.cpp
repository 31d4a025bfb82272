// The thread that gathers everybody's number twice a second.
#include "comm/roll_call.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "comm/deadline.h"
#include "comm/error.h"

namespace acp {

namespace {

using namespace std::chrono_literals;

constexpr auto grace = 2000ms;

// Between two calls: short against the deadline, which the others' pauses must not use up.
std::chrono::milliseconds interval() {
  return std::min<std::chrono::milliseconds>(500ms, wait_timeout() / 4);
}

}  // namespace

struct RollCall::State {
  State(std::unique_ptr<Communicator> c, std::function<void(const Failure&)> when_lost)
      : channel(std::move(c)),
        lost(std::move(when_lost)),
        counts(static_cast<std::size_t>(channel->size()), 0) {
    if (channel->size() > 1) thread = std::thread([this] { loop(); });
  }

  // Ends when a rank leaves, which all ranks see in the same call, or when the channel has failed.
  void loop() {
    const c10::NoGradGuard no_grad;
    try {
      while (call()) continue;
    } catch (...) {
      const Failure failure = Failure::of(std::current_exception());
      bool expected = false;
      {
        const std::lock_guard lock(mutex);
        expected = leaving;
      }
      if (!expected) lost(failure);
    }
    const std::lock_guard lock(mutex);
    over = true;
    changed.notify_all();
  }

  // False once some rank leaves.
  bool call() {
    const at::Tensor mine = at::empty({2}, at::kLong), all = at::empty({channel->size(), 2}, at::kLong);
    {
      std::unique_lock lock(mutex);
      changed.wait_for(lock, interval(), [&] { return leaving; });
      mine[0] = started.load();
      mine[1] = leaving ? 1 : 0;
    }
    Collective op = Collective::all_gather(mine, all);
    op.label = "roll call";
    channel->perform(std::move(op));
    const auto* each = all.const_data_ptr<std::int64_t>();
    const std::lock_guard lock(mutex);
    heard = true;
    bool go_on = true;
    for (std::size_t r = 0; r < counts.size(); ++r) {
      counts[r] = each[2 * r];
      go_on = go_on && each[2 * r + 1] == 0;
    }
    return go_on;
  }

  const std::unique_ptr<Communicator> channel;
  const std::function<void(const Failure&)> lost;
  std::atomic<std::int64_t> started = 0;

  std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  std::vector<std::int64_t> counts;
  bool heard = false;  // counts are those of a call
  bool leaving = false, over = false;

  std::thread thread;  // last: it uses all of the above; joined by the roll call's destructor
};

RollCall::RollCall(std::unique_ptr<Communicator> channel, std::function<void(const Failure&)> lost)
    : state_(std::make_unique<State>(std::move(channel), std::move(lost))) {}

RollCall::~RollCall() {
  State& s = *state_;
  if (!s.thread.joinable()) return;
  {
    std::unique_lock lock(s.mutex);
    s.leaving = true;
    s.changed.notify_all();
    if (!s.changed.wait_for(lock, grace, [&] { return s.over; })) {
      lock.unlock();
      abort(std::make_exception_ptr(CommunicationError("rank " + std::to_string(s.channel->rank()) +
                                                       " has left; the others had not after 2 s")));
    }
  }
  s.thread.join();
}

void RollCall::started() {
  ++state_->started;
}

RollCall::Late RollCall::late() const {
  const State& s = *state_;
  Late result;
  result.mine = s.started;
  result.theirs = result.mine;
  const std::lock_guard lock(state_->mutex);
  if (!s.heard) return result;
  for (std::size_t r = 0; r < s.counts.size(); ++r) {
    if (static_cast<int>(r) == s.channel->rank() || s.counts[r] >= result.theirs) continue;
    result.rank = static_cast<int>(r);
    result.theirs = s.counts[r];
  }
  return result;
}

void RollCall::abort(std::exception_ptr reason) noexcept {
  state_->channel->abort(std::move(reason));
}

}  // namespace acp
