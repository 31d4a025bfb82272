// The MPI thread's loop: start what is new, test what is active, back off, keep an eye on the control
// channel.
#include "comm/mpi/mpi_thread.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "comm/deadline.h"
#include "comm/error.h"

namespace acp::mpi {

namespace {

using namespace std::chrono_literals;

constexpr int kAbortTag = 1;
constexpr std::size_t kAbortBytes = 4096;

std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "an unknown exception";
  }
}

// Runs when the process ends after an abort: takes the others down with this process's own exit status. Ranks
// other than 0 leave rank 0, which speaks for all, a moment to print its line first.
void abort_at_exit(int status, void* rank) {
  if (reinterpret_cast<std::intptr_t>(rank) != 0) std::this_thread::sleep_for(1s);
  MPI_Abort(MPI_COMM_WORLD, status == 0 ? 4 : status);
}

}  // namespace

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw CommunicationError(std::string(call) + " failed: " + text);
}

std::shared_ptr<MpiThread> MpiThread::get() {
  static std::mutex mutex;
  static std::weak_ptr<MpiThread> current;
  const std::lock_guard lock(mutex);
  std::shared_ptr<MpiThread> thread = current.lock();
  if (!thread) current = thread = std::shared_ptr<MpiThread>(new MpiThread);
  return thread;
}

MpiThread::MpiThread() {
  thread_ = std::thread([this] { run(); });
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [&] { return ready_; });
  if (!start_error_) return;
  lock.unlock();
  thread_.join();
  std::rethrow_exception(start_error_);
}

MpiThread::~MpiThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void MpiThread::start_mpi() {
  int initialized = 0;
  int finalized = 0;
  check(MPI_Finalized(&finalized), "MPI_Finalized");
  if (finalized) throw ConfigError("MPI has been ended in this process; it cannot be started a second time");
  check(MPI_Initialized(&initialized), "MPI_Initialized");
  int provided = MPI_THREAD_SINGLE;
  if (initialized) {
    check(MPI_Query_thread(&provided), "MPI_Query_thread");
    if (provided < MPI_THREAD_SERIALIZED) {
      throw ConfigError(
          "the program has started MPI without thread support: call MPI_Init_thread with "
          "MPI_THREAD_SERIALIZED (or "
          "MULTIPLE), or leave the start to this library");
    }
  } else {
    // Ranks that share cores must not spin on each other's time; the user's own setting wins.
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
    started_here_ = true;
    if (provided < MPI_THREAD_SERIALIZED) {
      throw ConfigError(
          "this MPI does not offer MPI_THREAD_SERIALIZED; use one that does, or the backend tcp");
    }
  }
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  check(MPI_Comm_dup(MPI_COMM_WORLD, &control_), "MPI_Comm_dup");
  check(MPI_Comm_set_errhandler(control_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  control_text_.resize(kAbortBytes);
  check(MPI_Irecv(control_text_.data(), static_cast<int>(kAbortBytes), MPI_CHAR, MPI_ANY_SOURCE, kAbortTag,
                  control_, &control_request_),
        "MPI_Irecv");
}

void MpiThread::end_mpi() {
  if (aborted_) {
    if (started_here_) on_exit(abort_at_exit, reinterpret_cast<void*>(static_cast<std::intptr_t>(rank_)));
    return;
  }
  MPI_Cancel(&control_request_);
  MPI_Wait(&control_request_, MPI_STATUS_IGNORE);
  MPI_Comm_free(&control_);
  if (started_here_) MPI_Finalize();
}

void MpiThread::run() {
  try {
    start_mpi();
  } catch (...) {
    start_error_ = std::current_exception();
  }
  std::unique_lock lock(mutex_);
  ready_ = true;
  finished_.notify_all();
  if (start_error_) return;

  int idle = 0;
  auto pause = 20us;
  for (;;) {
    if (!submitted_.empty()) {
      begin_new(lock);
      idle = 0;
      pause = 20us;
    }
    if (abort_to_send_) {
      abort_to_send_ = false;
      const std::string text = text_of(aborted_);
      lock.unlock();
      send_abort(text);
      lock.lock();
    }
    if (aborted_ && !active_.empty()) fail_all(aborted_);
    if (active_.empty()) {
      if (stop_ && submitted_.empty()) break;
      work_.wait(lock, [&] { return !submitted_.empty() || stop_ || abort_to_send_; });
      continue;
    }
    lock.unlock();
    const bool progress = test_active();
    test_control();
    if (progress) {
      idle = 0;
      pause = 20us;
      lock.lock();
      continue;
    }
    ++idle;
    if (idle < 20) {
      lock.lock();
    } else if (idle < 40) {
      sched_yield();
      lock.lock();
    } else {
      lock.lock();
      work_.wait_for(lock, pause, [&] { return !submitted_.empty() || abort_to_send_; });
      pause = std::min(pause * 2, std::chrono::microseconds(1000));
    }
  }
  lock.unlock();
  end_mpi();
}

void MpiThread::begin_new(std::unique_lock<std::mutex>& lock) {
  while (!submitted_.empty()) {
    const std::shared_ptr<Operation> operation = std::move(submitted_.front());
    submitted_.pop_front();
    if (aborted_) {
      operation->error = aborted_;
      operation->done = true;
      finished_.notify_all();
      continue;
    }
    lock.unlock();
    try {
      operation->begin(*operation);
      operation->statuses.resize(operation->requests.size());
      operation->codes.assign(operation->requests.size(), MPI_SUCCESS);
    } catch (...) {
      operation->error = std::current_exception();
    }
    lock.lock();
    if (operation->error || operation->requests.empty()) {
      operation->done = true;
      finished_.notify_all();
    } else {
      active_.push_back(operation);
    }
  }
}

bool MpiThread::test_active() {
  bool progress = false;
  for (const auto& operation : active_) {
    int flag = 1;
    for (std::size_t i = 0; i < operation->requests.size(); ++i) {
      if (operation->requests[i] == MPI_REQUEST_NULL) continue;
      int complete = 0;
      const int code = MPI_Test(&operation->requests[i], &complete, &operation->statuses[i]);
      if (code != MPI_SUCCESS) {
        operation->codes[i] = code;
        operation->requests[i] = MPI_REQUEST_NULL;
      } else if (!complete) {
        flag = 0;
        break;
      }
    }
    if (!flag) continue;
    progress = true;
    const std::lock_guard lock(mutex_);
    operation->done = true;
    finished_.notify_all();
  }
  if (progress) std::erase_if(active_, [](const auto& operation) { return operation->done; });
  return progress;
}

void MpiThread::test_control() {
  int arrived = 0;
  MPI_Status status;
  if (control_request_ == MPI_REQUEST_NULL) return;
  if (MPI_Test(&control_request_, &arrived, &status) != MPI_SUCCESS || !arrived) return;
  int length = 0;
  MPI_Get_count(&status, MPI_CHAR, &length);
  const std::string text(control_text_.data(), static_cast<std::size_t>(std::max(0, length)));
  const std::lock_guard lock(mutex_);
  if (!aborted_) {
    aborted_ = std::make_exception_ptr(
        PeerError(status.MPI_SOURCE, "rank " + std::to_string(status.MPI_SOURCE) + " failed: " + text));
  }
}

// With the lock held. Receives are cancelled, so that MPI does not write into memory that its owner frees
// next.
void MpiThread::fail_all(const std::exception_ptr& reason) {
  for (const auto& operation : active_) {
    give_up(*operation);
    operation->error = reason;
    operation->done = true;
  }
  active_.clear();
  finished_.notify_all();
}

void MpiThread::give_up(Operation& operation) {
  if (operation.peer < 0) return;  // a collective can be neither cancelled nor freed
  for (MPI_Request& request : operation.requests) {
    if (request == MPI_REQUEST_NULL) continue;
    MPI_Cancel(&request);
    MPI_Request_free(&request);
  }
}

void MpiThread::send_abort(const std::string& text) {
  const int length = static_cast<int>(std::min(text.size(), kAbortBytes));
  std::vector<MPI_Request> requests;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    requests.emplace_back();
    if (MPI_Isend(text.data(), length, MPI_CHAR, peer, kAbortTag, control_, &requests.back()) !=
        MPI_SUCCESS) {
      requests.pop_back();
    }
  }
  const auto deadline = std::chrono::steady_clock::now() + 1s;
  int all = 0;
  while (!all && std::chrono::steady_clock::now() < deadline) {
    if (MPI_Testall(static_cast<int>(requests.size()), requests.data(), &all, MPI_STATUSES_IGNORE) !=
        MPI_SUCCESS)
      break;
    if (!all) std::this_thread::sleep_for(1ms);
  }
}

void MpiThread::submit(const std::shared_ptr<Operation>& operation) {
  {
    const std::lock_guard lock(mutex_);
    submitted_.push_back(operation);
  }
  work_.notify_all();
}

void MpiThread::wait(const std::shared_ptr<Operation>& operation) {
  const auto timeout = wait_timeout();
  std::unique_lock lock(mutex_);
  if (!finished_.wait_for(lock, timeout, [&] { return operation->done; })) {
    const std::string who = operation->peer >= 0 ? "rank " + std::to_string(operation->peer) : "another rank";
    const auto error = std::make_exception_ptr(PeerError(
        operation->peer, who + " did not take part within " + std::to_string(timeout.count() / 1000.0) +
                             " s (ACP_TIMEOUT): it is missing, stuck, or runs another program"));
    if (!aborted_) {
      aborted_ = error;
      abort_to_send_ = true;
    }
    work_.notify_all();
    finished_.wait(lock, [&] { return operation->done; });  // the MPI thread lets go of the memory first
    std::rethrow_exception(error);
  }
  if (operation->error) std::rethrow_exception(operation->error);
}

void MpiThread::call(const std::function<void()>& body) {
  auto operation = std::make_shared<Operation>();
  operation->begin = [&](Operation&) { body(); };
  submit(operation);
  wait(operation);
}

void MpiThread::abort(std::exception_ptr reason) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (aborted_) return;
    aborted_ = std::move(reason);
    abort_to_send_ = true;
  }
  work_.notify_all();
}

bool MpiThread::aborted() const {
  const std::lock_guard lock(mutex_);
  return aborted_ != nullptr;
}

}  // namespace acp::mpi
