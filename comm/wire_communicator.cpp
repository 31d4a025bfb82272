// The wire thread: takes collectives from the queue, performs them, fulfils their futures.
#include "comm/wire_communicator.h"

#include <atomic>
#include <string>

#include "comm/algorithms/algorithms.h"
#include "comm/error.h"

namespace acp {

struct WireCommunicator::State {
  struct Job {
    Collective op;
    std::promise<void> done;
  };

  explicit State(std::unique_ptr<Transport> t) : transport(std::move(t)) {
    thread = std::jthread([this](const std::stop_token& stop) { loop(stop); });
  }

  void loop(const std::stop_token& stop) {
    for (;;) {
      std::unique_lock lock(mutex);
      if (!changed.wait(lock, stop, [&] { return !queue.empty(); })) return;
      Job job = std::move(queue.front());
      queue.pop_front();
      busy = true;
      const std::exception_ptr failed = reason;
      lock.unlock();
      std::exception_ptr error = failed;
      if (!error) {
        try {
          execute(job.op);
        } catch (...) {
          error = wrap(job.op);
        }
      }
      lock.lock();
      busy = false;
      if (error && !reason) reason = error;
      lock.unlock();
      job.op.in.reset();  // before the waiter goes on: it may count on being the only owner
      job.op.out.reset();
      if (error) {
        job.done.set_exception(error);
      } else {
        job.done.set_value();
      }
    }
  }

  void execute(const Collective& op) {
    const bool native = op.algorithm == Algorithm::native ||
                        (op.algorithm == Algorithm::automatic && transport->prefers_native(op));
    if (native && transport->native(op)) return;
    perform(op, *transport);
  }

  // The current exception with backend, rank and operation in front, its class kept.
  std::exception_ptr wrap(const Collective& op) const {
    const std::string where =
        "[" + std::string(transport->backend()) + "] rank " + std::to_string(transport->rank()) + ": ";
    const auto text = [&](const std::exception& e) {
      return (std::string(e.what()).rfind("[", 0) == 0 ? "" : where) + e.what() + ", during " + describe(op);
    };
    try {
      throw;
    } catch (const PeerError& e) {
      return std::make_exception_ptr(PeerError(e.peer(), text(e)));
    } catch (const CommunicationError& e) {
      return std::make_exception_ptr(CommunicationError(text(e)));
    } catch (const ConfigError& e) {
      return std::make_exception_ptr(ConfigError(text(e)));
    } catch (...) {
      return std::current_exception();  // the reason of an abort
    }
  }

  std::unique_ptr<Transport> transport;
  std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<Job> queue;
  bool busy = false;
  std::exception_ptr reason;
  std::jthread thread;
};

WireCommunicator::WireCommunicator(std::unique_ptr<Transport> transport)
    : state_(std::make_unique<State>(std::move(transport))) {}

WireCommunicator::~WireCommunicator() {
  std::unique_lock lock(state_->mutex);
  if (state_->busy) {
    lock.unlock();
    state_->transport->abort(std::make_exception_ptr(CommunicationError(
        "rank " + std::to_string(rank()) + " closed its communicator during a collective")));
    lock.lock();
  }
  for (auto& job : state_->queue) {
    job.done.set_exception(std::make_exception_ptr(
        CommunicationError("the communicator was closed before " + describe(job.op))));
  }
  state_->queue.clear();
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
  State::Job job{std::move(op), {}};
  std::future<void> done = job.done.get_future();
  {
    const std::lock_guard lock(state_->mutex);
    state_->queue.push_back(std::move(job));
  }
  state_->changed.notify_all();
  return done;
}

std::unique_ptr<Communicator> WireCommunicator::channel() {
  return std::make_unique<WireCommunicator>(state_->transport->channel());
}

void WireCommunicator::abort(std::exception_ptr reason) noexcept {
  {
    const std::lock_guard lock(state_->mutex);
    if (!state_->reason) state_->reason = reason;
  }
  state_->transport->abort(std::move(reason));
}

Communicator::Traffic WireCommunicator::traffic() const {
  return {state_->transport->bytes_sent(), state_->transport->bytes_estimated()};
}

}  // namespace acp
