// The wire thread: takes collectives from the queue, performs them, fulfils their futures.
#include "comm/wire_communicator.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "comm/error.h"
#include "comm/failure.h"

namespace acp {

namespace {

// How long a destructor lets operations end that the peers may be performing as well.
constexpr auto grace = std::chrono::seconds(2);

}  // namespace

struct WireCommunicator::State {
  struct Operation {
    Collective op;
    std::promise<void> done;
  };
  struct Opening {  // channel(): in the queue like an operation, since the transport may exchange messages
                    // for it
    std::promise<std::unique_ptr<Transport>> done;
  };
  using Job = std::variant<Operation, Opening>;

  State(std::unique_ptr<Transport> t, const Tuning& sizes)
      : tuning(sizes), transport(std::move(t)), thread([this](const std::stop_token& stop) { loop(stop); }) {}

  void enqueue(Job job) {
    {
      const std::lock_guard lock(mutex);
      queue.push_back(std::move(job));
    }
    changed.notify_all();
  }

  // The wire thread. Ends when asked to and nothing is queued.
  void loop(const std::stop_token& stop) {
    std::unique_lock lock(mutex);
    while (changed.wait(lock, stop, [&] { return !queue.empty() && !busy; })) {
      {
        Job job = std::move(queue.front());
        queue.pop_front();
        busy = true;
        lock.unlock();
        std::visit([this](auto& j) { run(j); }, job);
      }
      lock.lock();
      busy = false;
      if (queue.empty()) changed.notify_all();  // for the destructor
    }
  }

  // On the calling thread if the wire is free; false leaves `op` alone.
  bool run_here(Collective& op) {
    {
      const std::lock_guard lock(mutex);
      if (busy || !queue.empty()) return false;
      busy = true;
    }
    const std::optional<Failure> failure = attempt(op);
    {
      const std::lock_guard lock(mutex);
      busy = false;
      if (!queue.empty()) changed.notify_all();
    }
    if (failure) failure->raise();
    return true;
  }

  // Messages may lie where the transport reaches them; what adds up works in the host's memory.
  void check(const Collective& op) const {
    const bool anywhere = op.kind == Collective::Kind::send_receive && transport->reaches_device();
    (anywhere ? check_shape : acp::check)(op, transport->rank(), transport->size());
  }

  // Performs `op`; whatever happens, the channel and the memory are left as they have to be.
  std::optional<Failure> attempt(Collective& op) {
    std::optional<Failure> failure = failed();
    if (!failure) {
      const auto begin = std::chrono::steady_clock::now();
      try {
        acp::perform(op, *transport, workspace, tuning);
      } catch (...) {
        failure = fail(Failure::of(std::current_exception()), &op);
      }
      count(std::chrono::steady_clock::now() - begin);
    }
    if (failure) {
      unfinished.push_back(std::move(op));
    } else {
      op.in.reset();  // before the waiter goes on: it may count on being the only owner
      op.out.reset();
    }
    return failure;
  }

  void run(Operation& job) {
    if (const auto failure = attempt(job.op)) {
      job.done.set_exception(failure->exception());
    } else {
      job.done.set_value();
    }
  }

  void run(Opening& job) {
    std::optional<Failure> failure = failed();
    std::unique_ptr<Transport> opened;
    if (!failure) {
      try {
        opened = transport->channel();
      } catch (...) {
        failure = fail(Failure::of(std::current_exception()), nullptr);
      }
    }
    if (failure) {
      job.done.set_exception(failure->exception());
    } else {
      job.done.set_value(std::move(opened));
    }
  }

  std::optional<Failure> failed() {
    const std::lock_guard lock(mutex);
    return first_failure;
  }

  // Records a failure unless there is one; returns the first.
  Failure fail(Failure failure, const Collective* op) {
    const std::lock_guard lock(mutex);
    if (!first_failure) {
      first_failure = op != nullptr ? during(std::move(failure), transport->backend(), transport->rank(), *op)
                                    : std::move(failure);
    }
    return *first_failure;
  }

  void count(std::chrono::nanoseconds spent) {
    nanoseconds.fetch_add(spent.count(), std::memory_order_relaxed);
    bytes_sent.store(transport->bytes_sent(), std::memory_order_relaxed);
    bytes_estimated.store(transport->bytes_estimated(), std::memory_order_relaxed);
  }

  Tuning tuning;
  // These outlive the transport, which may still know their memory after a failed operation.
  Workspace workspace;
  std::vector<Collective> unfinished;
  const std::unique_ptr<Transport> transport;
  std::atomic<std::uint64_t> bytes_sent = 0;
  std::atomic<bool> bytes_estimated = false;
  std::atomic<std::int64_t> nanoseconds = 0;  // at work on operations

  std::mutex mutex;  // guards what follows
  std::condition_variable_any changed;
  std::deque<Job> queue;
  bool busy = false;  // a thread is at work with the transport
  std::optional<Failure> first_failure;

  std::jthread thread;  // last: it uses all of the above
};

WireCommunicator::WireCommunicator(std::unique_ptr<Transport> transport, const Tuning& tuning)
    : state_(std::make_unique<State>(std::move(transport), tuning)) {}

WireCommunicator::~WireCommunicator() {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  const bool ended = s.changed.wait_for(lock, grace, [&] { return s.queue.empty() && !s.busy; });
  lock.unlock();
  if (!ended) {
    std::string text = "[";
    text += backend();
    text += "] rank " + std::to_string(rank()) + ": its communicator was destroyed with operations under way";
    abort(std::make_exception_ptr(CommunicationError(text)));
  }
  s.thread.request_stop();
  s.thread.join();  // what is still queued fails at once
}

int WireCommunicator::rank() const {
  return state_->transport->rank();
}
int WireCommunicator::size() const {
  return state_->transport->size();
}
std::string_view WireCommunicator::backend() const {
  return state_->transport->backend();
}

std::future<void> WireCommunicator::start(Collective op) {
  State::Operation job{std::move(op), {}};
  std::future<void> done = job.done.get_future();
  try {
    state_->check(job.op);
  } catch (...) {
    const Failure failure = during(Failure::of(std::current_exception()), backend(), rank(), job.op);
    job.done.set_exception(failure.exception());
    return done;
  }
  state_->enqueue(std::move(job));
  return done;
}

void WireCommunicator::perform(Collective op) {
  try {
    state_->check(op);
  } catch (...) {
    during(Failure::of(std::current_exception()), backend(), rank(), op).raise();
  }
  if (!state_->run_here(op)) start(std::move(op)).get();
}

void WireCommunicator::tune(const Tuning& tuning) {
  // A future is ready a moment before its thread has done with the operation.
  std::unique_lock lock(state_->mutex);
  const auto idle = [&] { return state_->queue.empty() && !state_->busy; };
  while (!state_->changed.wait_for(lock, std::chrono::milliseconds(1), idle)) continue;
  state_->tuning = tuning;
}

std::unique_ptr<Communicator> WireCommunicator::channel() {
  return channel(state_->tuning);
}

std::unique_ptr<Communicator> WireCommunicator::channel(const Tuning& tuning) {
  State::Opening job;
  auto opened = job.done.get_future();
  state_->enqueue(std::move(job));
  return std::make_unique<WireCommunicator>(opened.get(), tuning);
}

void WireCommunicator::abort(std::exception_ptr reason) noexcept {
  try {
    state_->fail(Failure::of(reason), nullptr);
  } catch (...) {  // no memory for the text: the transport still passes the reason on
  }
  state_->transport->abort(std::move(reason));
}

Communicator::Traffic WireCommunicator::traffic() const {
  return {state_->bytes_sent.load(std::memory_order_relaxed),
          state_->bytes_estimated.load(std::memory_order_relaxed),
          static_cast<double>(state_->nanoseconds.load(std::memory_order_relaxed)) * 1e-9};
}

}  // namespace acp
