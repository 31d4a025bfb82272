// The thread that moves rounds: to the host, over the wire, back to the device.
#include "comm/staged/staged.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "comm/algorithms/algorithms.h"
#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/failure.h"
#include "comm/staged/direct.h"
#include "comm/staged/host_buffers.h"
#include "comm/staged/plan.h"

namespace acp {

namespace {

using Clock = std::chrono::steady_clock;
using Kind = Collective::Kind;

// How long a destructor lets operations end that the peers may be performing as well.
constexpr auto grace = std::chrono::seconds(2);
// Rounds whose copies to the host are under way, and rounds that the host's backend has: one at work, one
// that it finds when it is done.
constexpr std::size_t ahead = 2, on_wire = 2;

const at::Tensor& some_tensor(const Collective& op) {
  return op.in.defined() ? op.in : op.out;
}

class StagedCommunicator final : public Communicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> host, std::shared_ptr<DeviceCopies> copies,
                     Staging staging)
      : host_(std::move(host)),
        copies_(std::move(copies)),
        staging_(staging),
        buffers_(*copies_, [this](const MarkPtr& mark) { wait(mark); }) {}

  ~StagedCommunicator() override {
    std::unique_lock lock(mutex_);
    const bool ended = changed_.wait_for(lock, grace, [&] { return idle(); });
    lock.unlock();
    if (!ended) {
      abort(std::make_exception_ptr(
          CommunicationError("[" + std::string(backend()) + "] rank " + std::to_string(rank()) +
                             ": its communicator was destroyed with operations under way")));
    }
    thread_.request_stop();
  }
  StagedCommunicator(const StagedCommunicator&) = delete;
  StagedCommunicator& operator=(const StagedCommunicator&) = delete;

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  std::string_view backend() const override { return host_->backend(); }
  Traffic traffic() const override { return host_->traffic(); }

  std::future<void> start(Collective op) override {
    const bool staged = elsewhere(op);
    if (!staged && is_idle()) return host_->start(std::move(op));
    Job job{std::move(op), nullptr, {}, staged};
    std::future<MarkPtr> done = job.done.get_future();
    if (admit(job)) enqueue(std::move(job));
    // The consumer's thread: its current stream is the one that has to wait.
    return std::async(std::launch::deferred, [done = std::move(done)]() mutable { join(done.get()); });
  }

  void perform(Collective op) override {
    if (!elsewhere(op) && is_idle()) return host_->perform(std::move(op));
    start(std::move(op)).get();
  }

  std::unique_ptr<Communicator> channel() override {
    {
      std::unique_lock lock(mutex_);  // the host's next operation is this one, on every rank
      changed_.wait(lock, [&] { return idle(); });
    }
    return std::make_unique<StagedCommunicator>(host_->channel(), copies_of_channel(), staging_);
  }

  void abort(std::exception_ptr reason) noexcept override {
    {
      const std::lock_guard lock(reason_mutex_);
      if (!reason_) reason_ = Failure::of(reason);
    }
    aborted_ = true;
    host_->abort(std::move(reason));
  }

 private:
  struct Job {
    Collective op;
    MarkPtr ready;  // the inputs are there
    std::promise<MarkPtr> done;
    bool staged = false;
  };
  // An operation in its rounds.
  struct Active {
    Active(Job j, StagePlan p) : job(std::move(j)), plan(std::move(p)), rounds(plan.rounds()) {}
    Job job;
    StagePlan plan;
    std::int64_t rounds, next = 0, open = 0;
    MarkPtr up;  // the last copies to the device
    std::optional<Failure> failure;
  };
  struct Flight {
    std::shared_ptr<Active> active;
    StageRound round;
    at::Tensor in, out;  // on the host
    MarkPtr down;
    std::future<void> done;
  };

  bool elsewhere(const Collective& op) const {
    return copies_->elsewhere(op.in) || copies_->elsewhere(op.out);
  }
  bool idle() const { return queue_.empty() && !busy_; }
  bool is_idle() {
    const std::lock_guard lock(mutex_);
    return idle();
  }
  // Channels are used by different threads, and copies by one.
  std::shared_ptr<DeviceCopies> copies_of_channel() const { return copies_->another(); }

  // What is wrong with the operation alone fails it here; so does one rank, which needs no host.
  bool admit(Job& job) {
    try {
      if (!job.staged) return true;
      check_shape(job.op, rank(), size());
      const at::Tensor &in = job.op.in, &out = job.op.out;
      if (size() == 1) {
        if (in.defined() && out.defined() && !in.is_same(out)) out.view(-1).copy_(in.view(-1), true);
        job.done.set_value(nullptr);
        return false;
      }
      job.ready = copies_->mark(some_tensor(job.op));
      return true;
    } catch (...) {
      job.done.set_exception(
          during(Failure::of(std::current_exception()), backend(), rank(), job.op).exception());
      return false;
    }
  }

  void enqueue(Job job) {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(job));
    if (!thread_.joinable()) thread_ = std::jthread([this](const std::stop_token& stop) { loop(stop); });
    changed_.notify_all();
  }

  // The staging thread. Ends when asked to and nothing is queued.
  void loop(const std::stop_token& stop) {
    const c10::NoGradGuard no_grad;
    std::unique_lock lock(mutex_);
    while (changed_.wait(lock, stop, [&] { return !queue_.empty(); })) {
      busy_ = true;
      lock.unlock();
      while (work()) continue;
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  // One thing of those that can be done: the one that keeps copies and wire busy. False: there is nothing.
  bool work() {
    if (loading_.size() < ahead && next_round()) return true;
    if (!loading_.empty() && sending_.size() < on_wire) return send(), true;
    if (!sending_.empty()) return finish(), true;
    return false;
  }

  // Starts the copies of the next round, if there is one.
  bool next_round() {
    if (!current_ && !next_operation()) return false;
    if (!current_) return true;  // it failed, or waits for those before it
    const auto active = current_;
    Flight flight;
    flight.active = active;
    if (active->next + 1 >= active->rounds) current_ = nullptr;
    try {
      if (active->job.staged) load(flight, active->next);
      ++active->next;
      ++active->open;
      loading_.push_back(std::move(flight));
    } catch (...) {
      fail(*active);
    }
    return true;
  }

  bool next_operation() {
    std::unique_lock lock(mutex_);
    if (queue_.empty()) return false;
    const bool staged = queue_.front().staged, alone = staged && queue_.front().op.kind == Kind::all_to_all_v;
    const bool direct = staged && staging_.direct;
    if ((alone || direct) && !loading_.empty()) return false;  // the host gets its operations in order
    Job job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    if (direct) {
      perform_here(job);
      return true;
    }
    const std::int64_t width = job.staged ? some_tensor(job.op).element_size() : 1;
    StagePlan plan(job.op, rank(), size(), static_cast<std::int64_t>(staging_.chunk_bytes) / width);
    const auto active = std::make_shared<Active>(std::move(job), std::move(plan));
    if (!active->job.staged) active->rounds = 1;
    try {
      if (alone) active->rounds = most(active->rounds, active->job.op.label);
      current_ = active;
    } catch (...) {
      fail(*active);
    }
    return true;
  }

  void perform_here(Job& job) {
    std::optional<Failure> failure;
    try {
      wait(job.ready);
      const at::Tensor& some = some_tensor(job.op);
      if (!beside_ && some.defined() && !some.device().is_cpu()) beside_ = side_stream(some.device());
      perform_direct(
          *host_, job.op, [this](const MarkPtr& mark) { wait(mark); }, beside_);
    } catch (...) {
      failure = broken();
    }
    fulfil(job, failure, nullptr);
  }

  // Of an all_to_all_v each rank knows its own counts only.
  std::int64_t most(std::int64_t mine, const std::string& label) {
    const at::Tensor x = at::full({1}, mine, at::kLong);
    Collective op = Collective::all_reduce(x, ReduceOp::max);
    op.label = label;
    host_->perform(std::move(op));
    return x.item<std::int64_t>();
  }

  void load(Flight& flight, std::int64_t index) {
    const Collective& op = flight.active->job.op;
    flight.round = flight.active->plan.round(index);
    const StageRound& round = flight.round;
    const bool in_place = op.kind == Kind::all_reduce || op.kind == Kind::broadcast;
    const auto type = some_tensor(op).scalar_type();
    if (op.in.defined()) flight.in = buffers_.take(round.in, type);
    if (op.out.defined()) flight.out = in_place ? flight.in : buffers_.take(round.out, type);
    std::vector<DeviceCopies::Copy> copies;
    const at::Tensor from = op.in.defined() ? op.in.view(-1) : at::Tensor();
    for (const StagePiece& p : round.down) {
      copies.push_back({flight.in.narrow(0, p.host, p.count), from.narrow(0, p.device, p.count)});
    }
    flight.down = copies_->down(copies, flight.active->job.ready);
  }

  void send() {
    Flight flight = std::move(loading_.front());
    loading_.pop_front();
    Active& active = *flight.active;
    if (!active.failure) {
      try {
        if (active.job.staged) {
          wait(flight.down);
          flight.done = host_->start(stage_collective(active.job.op, flight.round, flight.in, flight.out));
        } else {
          flight.done = host_->start(std::move(active.job.op));
        }
      } catch (...) {
        active.failure = broken();
      }
    }
    sending_.push_back(std::move(flight));
  }

  void finish() {
    Flight flight = std::move(sending_.front());
    sending_.pop_front();
    Active& active = *flight.active;
    MarkPtr busy = flight.down;
    try {
      if (flight.done.valid()) flight.done.get();
      if (!active.failure && active.job.staged) {
        const at::Tensor to = active.job.op.out.defined() ? active.job.op.out.view(-1) : at::Tensor();
        std::vector<DeviceCopies::Copy> copies;
        for (const StagePiece& p : flight.round.up) {
          copies.push_back({to.narrow(0, p.device, p.count), flight.out.narrow(0, p.host, p.count)});
        }
        if (const MarkPtr up = copies_->up(copies, active.job.ready)) active.up = busy = up;
      }
    } catch (...) {
      const Failure failure = broken();
      if (!active.failure) active.failure = failure;
    }
    if (flight.in.defined()) buffers_.give_back(flight.in, busy);
    if (flight.out.defined() && !flight.out.is_same(flight.in)) buffers_.give_back(flight.out, busy);
    --active.open;
    const bool over = active.failure || active.next == active.rounds;
    if (active.failure && current_ == flight.active) current_ = nullptr;
    if (over && active.open == 0) fulfil(active.job, active.failure, std::move(active.up));
  }

  // The peers have performed rounds of what failed here, or wait for them: nothing that follows on this
  // channel could be told from those.
  Failure broken() {
    Failure failure = Failure::of(std::current_exception());
    abort(failure.exception());
    return failure;
  }

  // Before any of its rounds is open, or after the last: else finish() does it.
  void fail(Active& active) {
    active.failure = broken();
    current_ = nullptr;
    if (active.open == 0) fulfil(active.job, active.failure, nullptr);
  }

  void fulfil(Job& job, const std::optional<Failure>& failure, MarkPtr up) {
    if (failure) {
      job.done.set_exception(during(*failure, backend(), rank(), job.op).exception());
      return;
    }
    job.op.in.reset();  // before the waiter goes on: it may count on being the only owner
    job.op.out.reset();
    job.done.set_value(std::move(up));
  }

  // Until the device has come that far; naps, so that the host's core is free.
  void wait(const MarkPtr& mark) const {
    using namespace std::chrono_literals;
    if (!mark) return;
    const auto deadline = Clock::now() + wait_timeout();
    for (std::chrono::microseconds nap = 10us; !mark->reached();
         nap = std::min<std::chrono::microseconds>(2 * nap, 200us)) {
      if (aborted_) {
        const std::lock_guard lock(reason_mutex_);
        reason_->raise();
      }
      if (Clock::now() >= deadline) {
        throw CommunicationError("the device has not done what this operation waits for within " +
                                 timeout_text() + ": its own stream is stuck");
      }
      std::this_thread::sleep_for(nap);
    }
  }

  const std::unique_ptr<Communicator> host_;
  const std::shared_ptr<DeviceCopies> copies_;
  const Staging staging_;
  std::atomic<bool> aborted_ = false;  // behind reason_
  mutable std::mutex reason_mutex_;
  std::optional<Failure> reason_;

  // The staging thread's.
  HostBuffers buffers_;
  std::optional<c10::Stream> beside_;  // of sums on the device, beside the back-propagation's
  std::shared_ptr<Active> current_;    // has rounds left
  std::deque<Flight> loading_, sending_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable_any changed_;
  std::deque<Job> queue_;
  bool busy_ = false;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace

std::unique_ptr<Communicator> stage(std::unique_ptr<Communicator> host, std::shared_ptr<DeviceCopies> copies,
                                    Staging staging) {
  return std::make_unique<StagedCommunicator>(std::move(host), std::move(copies), staging);
}

}  // namespace acp
