// The MPI thread's start, its loop, and how operations enter and leave it.
#include "comm/mpi/mpi_thread.h"

#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>

#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/mpi/check.h"

namespace acp::mpi {

namespace {

using namespace std::chrono_literals;

// MPI counts in ints, and a request shows no progress before it ends.
constexpr std::size_t piece_bytes = std::size_t{1} << 28;

// The process's thread. Never destroyed: a context with static storage may end after it.
struct Registry {
  std::mutex mutex;
  std::shared_ptr<MpiThread> thread;   // until it has ended well; for ever if it failed
  std::weak_ptr<MpiThread> connected;  // what get() hands out; its end ends the thread
};

Registry& registry() {
  static Registry* const instance = std::make_unique<Registry>().release();
  return *instance;
}

std::uint64_t child_id(std::uint64_t parent, std::uint64_t index) {
  std::uint64_t x = parent + 0x9e3779b97f4a7c15U * (index + 1);  // splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

}  // namespace

// Where the thread stands between working and sleeping.
struct MpiThread::Pause {
  static constexpr int at_once = 20, yielding = 40;
  // After a sleep a few more: one test moves only so many bytes, and looks at sockets only now and then.
  static constexpr int after_sleep = 8;
  int tests = 0;
  std::chrono::microseconds sleep = 20us;
  Clock::time_point since = Clock::now();  // nothing has moved

  // 1 ms; where a rank has kept the others waiting for long, a fiftieth of that, up to 5 ms: it costs nobody
  // anything that counts, and a waiting rank's core is free for the one that is waited for.
  std::chrono::microseconds longest() const {
    const auto waited = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - since);
    return std::clamp<std::chrono::microseconds>(waited / 50, 1000us, 5000us);
  }
  void reset() { *this = Pause(); }
};

MpiThread::MpiThread() : control_(requests_, [this](int from, const Note& note) { heard(from, note); }) {}

std::shared_ptr<MpiThread> MpiThread::get() {
  Registry& r = registry();
  const std::lock_guard guard(r.mutex);
  if (auto connected = r.connected.lock()) return connected;
  if (!r.thread) r.thread = start();
  const auto thread = r.thread;
  {
    const Lock lock(thread->mutex_);
    if (thread->failure_) thread->failure_->raise();
    if (thread->stop_)
      throw ConfigError("MPI is just ending in this process; keep one context for the whole run");
  }
  std::shared_ptr<MpiThread> connected(thread.get(), [thread](MpiThread*) {
    const bool well = thread->end();
    Registry& all = registry();
    const std::lock_guard again(all.mutex);
    if (well) all.thread.reset();
  });
  r.connected = connected;
  return connected;
}

int MpiThread::leave_process(int status) {
  Registry& r = registry();
  Lock lock(r.mutex);
  const auto thread = r.thread;
  lock.unlock();
  return thread ? thread->leave(status) : 0;
}

std::shared_ptr<MpiThread> MpiThread::start() {
  const auto timeout = wait_timeout();
  auto self = std::make_shared<MpiThread>();
  at_exit(&MpiThread::leave_process);
  Lock lock(self->mutex_);
  self->channels_.emplace(0, std::make_shared<Channel>(0));
  // The thread shares its object: it may have to be left alone in MPI_Init.
  self->thread_ = std::thread([self] { self->run(); });
  if (!self->state_.wait_for(lock, timeout, [&] { return self->ready_; })) {
    self->thread_.detach();
    self->fail_here({Failure::Kind::communication, -1,
                     "[mpi] MPI_Init_thread has not returned within " + timeout_text() +
                         ": not all processes of this job have started MPI"});
    self->silent_ = true;
    return self;
  }
  if (self->start_error_) {
    const std::exception_ptr error = self->start_error_;
    lock.unlock();
    self->thread_.join();
    std::rethrow_exception(error);
  }
  return self;
}

// Blocks until MPI has ended, or everything has failed and is silent.
bool MpiThread::end() {
  Lock lock(mutex_);
  stop_ = true;
  work_.notify_all();
  state_.wait(lock, [&] { return ended_well_ || silent_; });
  if (!ended_well_) return false;
  lock.unlock();
  thread_.join();
  return true;
}

void MpiThread::run() {
  prctl(PR_SET_NAME, "acp-mpi");
  prctl(PR_SET_TIMERSLACK, 1000UL);  // of 1 us, not 50: short sleeps are meant to be short
  std::exception_ptr error;
  try {
    started_ = start_mpi();
    control_.open(MPI_COMM_WORLD);
    channels_.at(0)->comm = control_.comm();
  } catch (...) {
    error = std::current_exception();
  }
  Lock lock(mutex_);
  if (silent_) return;  // it took too long, and nobody wants it any more
  start_error_ = error;
  ready_ = true;
  state_.notify_all();
  if (error) return;
  try {
    serve(lock);
    if (!failure_) say_farewell(lock);
  } catch (...) {
    if (!lock.owns_lock()) lock.lock();
    fail_here(Failure::of(std::current_exception()));
  }
  if (!failure_) {
    ended_well_ = true;
    state_.notify_all();
    return;
  }
  fall_silent(lock);
  work_.wait(lock, [&] { return exit_status_.has_value(); });
  lock.unlock();
  leave_together();
}

void MpiThread::serve(Lock& lock) {
  Pause pause;
  while (!failure_) {
    if (turn(lock)) {
      pause.reset();
      continue;
    }
    if (stop_ && submitted_.empty() && operations_under_way() == 0) return;
    if (!overdue_.empty()) {
      const auto operation = std::move(overdue_.front());
      overdue_.pop_front();
      look_for_missing(lock, operation);
    }
    look_at_left(lock);
    if (!failure_) rest(lock, pause, requests_.under_way() > 0 ? pause.longest() : 50000us);
  }
}

// Starts what is new and tests what is under way; true if there was anything to do. Gives the lock up
// meanwhile.
bool MpiThread::turn(Lock& lock) {
  std::deque<std::shared_ptr<Operation>> fresh;
  fresh.swap(submitted_);
  lock.unlock();
  for (const auto& operation : fresh) begin(operation);
  const bool progress = requests_.test() || !fresh.empty();
  lock.lock();
  const auto now = ended_.empty() ? Clock::time_point() : Clock::now();
  for (const auto& operation : ended_) {
    Channel& channel = *operation->channel;
    operation->done = true;
    --channel.unfinished;
    channel.progress = now;
    if (channel.awaited == operation.get() || channel.closed) channel.changed.notify_all();
  }
  ended_.clear();
  if (found_) {
    fail_here(*std::move(found_));
    found_.reset();
  }
  return progress;
}

void MpiThread::rest(Lock& lock, Pause& pause, std::chrono::microseconds longest) {
  ++pause.tests;
  if (pause.tests <= Pause::at_once) return;
  if (pause.tests <= Pause::yielding) {
    lock.unlock();
    sched_yield();
    lock.lock();
    return;
  }
  const auto wanted = [&] { return !submitted_.empty() || !overdue_.empty() || stop_ || failure_; };
  if (control_.size() == 1 && requests_.under_way() == 0) {
    work_.wait(lock, wanted);  // nobody else can have anything to say
  } else {
    work_.wait_for(lock, std::min(pause.sleep, longest), wanted);
  }
  pause.sleep = std::min(2 * pause.sleep, longest);
  pause.tests = Pause::yielding - Pause::after_sleep;
}

void MpiThread::begin(const std::shared_ptr<Operation>& operation) {
  try {
    switch (operation->kind) {
      case Operation::Kind::send:
      case Operation::Kind::receive:
        return begin_message(operation);
      case Operation::Kind::call:
        check(operation->start(operation->channel->comm, nullptr), operation->call);
        ended_.push_back(operation);
        return;
      case Operation::Kind::collective: {
        MPI_Request request = MPI_REQUEST_NULL;
        check(operation->start(operation->channel->comm, &request), operation->call);
        operation->open_pieces = 1;
        requests_.add(Requests::Kind::collective, request,
                      [this, operation](const MPI_Status& status, int code) {
                        piece_ended(operation, 0, status, code);
                      });
        return;
      }
    }
  } catch (...) {
    if (!found_) found_ = Failure::of(std::current_exception());
  }
}

// A message is as many full pieces as fit and one that is shorter, if need be empty: so two ranks that mean
// different lengths never take the end of one message for a part of the next.
void MpiThread::begin_message(const std::shared_ptr<Operation>& operation) {
  const bool sends = operation->kind == Operation::Kind::send;
  const std::size_t full = operation->size / piece_bytes;
  operation->open_pieces = full + 1;
  for (std::size_t i = 0; i <= full; ++i) {
    const std::size_t size = i < full ? piece_bytes : operation->size % piece_bytes;
    std::byte* const data = operation->data + i * piece_bytes;
    MPI_Request request = MPI_REQUEST_NULL;
    const MPI_Comm comm = operation->channel->comm;
    const int count = static_cast<int>(size);
    check(sends ? MPI_Isend(data, count, MPI_BYTE, operation->peer, operation->tag, comm, &request)
                : MPI_Irecv(data, count, MPI_BYTE, operation->peer, MPI_ANY_TAG, comm, &request),
          operation->call);
    requests_.add(sends ? Requests::Kind::send : Requests::Kind::receive, request,
                  [this, operation, size](const MPI_Status& status, int code) {
                    piece_ended(operation, size, status, code);
                  });
  }
}

void MpiThread::piece_ended(const std::shared_ptr<Operation>& operation, std::size_t expected,
                            const MPI_Status& status, int code) {
  int kind = MPI_SUCCESS;
  if (code != MPI_SUCCESS) check(MPI_Error_class(code, &kind), "MPI_Error_class");
  if (operation->kind == Operation::Kind::receive && (kind == MPI_SUCCESS || kind == MPI_ERR_TRUNCATE)) {
    int cancelled = 0;
    check(MPI_Test_cancelled(&status, &cancelled), "MPI_Test_cancelled");
    if (cancelled) return;
    int count = 0;
    check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    if (kind != MPI_SUCCESS || static_cast<std::size_t>(count) != expected ||
        status.MPI_TAG != operation->tag) {
      const std::string peer = std::to_string(operation->peer);
      if (!found_) {
        found_ = Failure{Failure::Kind::peer, operation->peer,
                         "the ranks do different things: rank " + peer + " sent " + std::to_string(count) +
                             " bytes (tag " + std::to_string(status.MPI_TAG) + ") where rank " +
                             std::to_string(rank()) + " expected " + std::to_string(expected) +
                             " bytes (tag " + std::to_string(operation->tag) + ")"};
      }
      return;
    }
  } else if (code != MPI_SUCCESS) {
    const std::string with = operation->peer < 0 ? "" : " with rank " + std::to_string(operation->peer);
    if (!found_) {
      found_ = Failure{operation->peer < 0 ? Failure::Kind::communication : Failure::Kind::peer,
                       operation->peer, operation->call + with + " failed: " + error_text(code)};
    }
    return;
  }
  if (--operation->open_pieces == 0) ended_.push_back(operation);
}

std::size_t MpiThread::operations_under_way() const {
  return requests_.count(Requests::Kind::send) + requests_.count(Requests::Kind::receive) +
         requests_.count(Requests::Kind::collective);
}

void MpiThread::submit(const std::shared_ptr<Operation>& operation) {
  const Lock lock(mutex_);
  Channel& channel = *operation->channel;
  if (failure_) return;  // wait() says so
  if (operation->kind == Operation::Kind::collective) operation->number = channel.collectives++;
  ++channel.unfinished;
  submitted_.push_back(operation);
  work_.notify_all();
}

void MpiThread::wait(const std::shared_ptr<Operation>& operation) {
  const auto timeout = wait_timeout();
  Channel& channel = *operation->channel;
  Lock lock(mutex_);
  channel.awaited = operation.get();
  channel.progress = Clock::now();
  bool reported = false;
  while (!operation->done && !silent_) {
    if (failure_ || reported) {
      channel.changed.wait(lock);  // the MPI thread ends this one way or the other
      continue;
    }
    const auto deadline = channel.progress + timeout;
    if (Clock::now() < deadline) {
      channel.changed.wait_until(lock, deadline);
      continue;
    }
    overdue_.push_back(operation);
    reported = true;
    work_.notify_all();
  }
  channel.awaited = nullptr;
  if (!operation->done) failure_->raise();
}

std::shared_ptr<Channel> MpiThread::open(const std::shared_ptr<Channel>& parent) {
  auto operation = std::make_shared<Operation>();
  std::shared_ptr<Channel> child;
  {
    const Lock lock(mutex_);
    operation->channel = parent ? parent : channels_.at(0);
    child = std::make_shared<Channel>(child_id(operation->channel->id, operation->channel->children++));
  }
  operation->kind = Operation::Kind::collective;
  operation->call = "MPI_Comm_idup";
  operation->start = [child](MPI_Comm comm, MPI_Request* request) {
    return MPI_Comm_idup(comm, &child->comm, request);
  };
  submit(operation);
  wait(operation);
  const Lock lock(mutex_);
  channels_.emplace(child->id, child);
  return child;
}

void MpiThread::close(const std::shared_ptr<Channel>& channel) noexcept {
  auto operation = std::make_shared<Operation>();
  operation->channel = channel;
  operation->call = "MPI_Comm_free";
  operation->start = [channel](MPI_Comm, MPI_Request*) { return MPI_Comm_free(&channel->comm); };
  Lock lock(mutex_);
  channel->closed = true;
  const bool unused =
      channel->changed.wait_for(lock, 1s, [&] { return channel->unfinished == 0 || failure_; });
  if (!unused) {
    fail_here({Failure::Kind::communication, -1,
               "rank " + std::to_string(rank()) + " closed a channel with messages under way"});
    work_.notify_all();
  }
  lock.unlock();
  submit(operation);
  lock.lock();
  channel->changed.wait(lock, [&] { return operation->done || silent_; });
}

}  // namespace acp::mpi
