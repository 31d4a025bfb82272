// How it ends: a failure that everybody learns of, an orderly farewell, or a process that takes the others
// along.
#include <algorithm>

#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/log.h"
#include "comm/mpi/mpi_thread.h"

namespace acp::mpi {

namespace {

using namespace std::chrono_literals;

// What is under way when something fails may end by itself for this long; notes to the peers may take longer.
constexpr auto time_to_end = 250ms;
constexpr auto time_to_tell = 2s;
// A failed process waits at its end for the others to print what they have to say.
constexpr auto time_to_leave = 5s;

}  // namespace

// With the lock held. The first reason stands.
void MpiThread::fail(Failure failure, int origin) {
  if (failure_) return;
  failure_ = std::move(failure);
  origin_ = origin;
}

void MpiThread::abort(const std::exception_ptr& reason) noexcept {
  const Failure failure = Failure::of(reason);
  const Lock lock(mutex_);
  fail_here(failure);
  work_.notify_all();
}

// Tells the peers, ends what can be ended, and then everybody who waits.
void MpiThread::fall_silent(Lock& lock) {
  const Failure failure = *failure_;
  const bool from_here = origin_ == rank();
  lock.unlock();
  try {
    if (from_here) {
      Note note;
      note.kind = Note::Kind::abort;
      note.text = failure.text;
      control_.send_all(note);
    }
    requests_.cancel(Requests::Kind::receive);
    const auto start = Clock::now();
    while (requests_.under_way() > 0) {
      if (requests_.test()) continue;
      const auto passed = Clock::now() - start;
      const bool told = requests_.count(Requests::Kind::note_send) == 0;
      const bool received = requests_.count(Requests::Kind::receive) == 0;
      if (passed > time_to_tell || (passed > time_to_end && told && received)) break;
      std::this_thread::sleep_for(200us);
    }
  } catch (const std::exception&) {  // MPI itself has failed: there is nobody left to tell
  }
  lock.lock();
  clean_ = operations_under_way() == 0;
  silent_ = true;
  for (const auto& [id, channel] : channels_) channel->changed.notify_all();
  state_.notify_all();
}

// MPI_Finalize would wait for everybody while it burns a core: so the ranks wait for each other's farewell
// first.
void MpiThread::say_farewell(Lock& lock) {
  Note farewell;
  farewell.kind = Note::Kind::farewell;
  lock.unlock();
  control_.send_all(farewell);
  lock.lock();
  const auto others = static_cast<std::size_t>(size() - 1);
  auto sleep = 20us;
  auto deadline = Clock::now() + wait_timeout();
  while (!failure_ && (left_.size() < others || requests_.under_way() > 0)) {
    if (turn(lock)) {
      sleep = 20us;
      continue;
    }
    if (Clock::now() >= deadline) {
      // A rank may have work to do for longer than any wait (rank 0 evaluates alone); but it answers, and a
      // line says for whom this one stays.
      std::vector<int> late;
      for (int peer = 0; peer < size(); ++peer) {
        if (peer != rank() && !left_.contains(peer)) late.push_back(peer);
      }
      const auto answers = ask(lock, late, 0);
      for (const int peer : late) {
        if (failure_ || left_.contains(peer)) continue;
        if (answers.contains(peer)) {
          log_warning("[mpi] rank " + std::to_string(rank()) + " has ended and waits for rank " +
                      std::to_string(peer) + ", which is still at work");
          continue;
        }
        fail_here(
            {Failure::Kind::peer, peer,
             "rank " + std::to_string(peer) + " has neither ended nor answered within " + timeout_text()});
        log_warning("[mpi] rank " + std::to_string(rank()) + ": " + failure_->text);
      }
      deadline = Clock::now() + wait_timeout();
      continue;
    }
    work_.wait_for(lock, sleep, [&] { return failure_.has_value(); });
    sleep = std::min<std::chrono::microseconds>(2 * sleep, 10ms);
  }
  if (failure_) return;
  lock.unlock();
  control_.close();
  end_mpi(started_);
  lock.lock();
}

// After a failure, when the process ends: the ranks meet once more, so that none is killed in the middle of a
// line.
void MpiThread::leave_together() {
  Lock lock(mutex_);
  Note leaving;
  leaving.kind = Note::Kind::leaving;
  leaving.value = *exit_status_;
  lock.unlock();
  try {
    control_.send_all(leaving);
    if (!clean_) {
      // Something that cannot be cancelled is under way, and its memory is gone: MPI must not move.
      std::this_thread::sleep_for(time_to_leave / 5);
      return;
    }
    const auto limit = Clock::now() + time_to_leave;
    lock.lock();
    while (leaving_.size() + 1 < static_cast<std::size_t>(size()) && Clock::now() < limit) {
      lock.unlock();
      if (!requests_.test()) std::this_thread::sleep_for(1ms);
      lock.lock();
    }
    lock.unlock();
    const auto sent = Clock::now() + 100ms;
    while (requests_.count(Requests::Kind::note_send) > 0 && Clock::now() < sent) requests_.test();
  } catch (const std::exception&) {  // the process ends in any case
  }
}

int MpiThread::leave(int status) {
  Lock lock(mutex_);
  if (!failure_ || !thread_.joinable()) return 0;
  state_.wait_for(lock, time_to_leave, [&] { return silent_; });
  if (!silent_) return 0;
  exit_status_ = status == 0 ? 4 : status;
  work_.notify_all();
  lock.unlock();
  thread_.join();
  lock.lock();
  // The rank where it began knows best.
  const auto first = leaving_.find(origin_);
  return first != leaving_.end() ? first->second : *exit_status_;
}

}  // namespace acp::mpi
