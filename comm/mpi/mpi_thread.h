// The one thread of a process that makes MPI calls, shared by all transports.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/failure.h"
#include "comm/mpi/control.h"
#include "comm/mpi/operation.h"
#include "comm/mpi/process.h"
#include "comm/mpi/requests.h"

namespace acp::mpi {

// Starts MPI, drives the operations that other threads submit, and ends MPI, all on one thread of its own, so
// that MPI_THREAD_SERIALIZED suffices. While operations are under way it tests them: a few times at once,
// then yielding, then after sleeps that double up to 1 ms (5 ms where nothing has moved for long); else it
// sleeps up to 50 ms at a time, so that announcements of the others and what MPI itself has still to send
// move on. A new operation wakes it.
//
// Any failure (of MPI, a deadline, ranks that differ, abort()) fails everything, here and on the peers: the
// first reason stands. The thread then cancels what can be cancelled, lets the rest end for a moment, and
// makes no MPI call any more until the process ends, so that the memory of failed operations is safe. Only
// then are those who wait told.
class MpiThread {
 public:
  // The process's thread; the first call starts MPI. Ends when the last of the returned pointers goes: that
  // is a collective call, too, unless something has failed. ConfigError, or CommunicationError if not all
  // processes of the job come before the deadline.
  static std::shared_ptr<MpiThread> get();

  MpiThread();  // does nothing; get() calls start()
  MpiThread(const MpiThread&) = delete;
  MpiThread& operator=(const MpiThread&) = delete;

  int rank() const { return control_.rank(); }
  int size() const { return control_.size(); }
  Local local() const { return started_.local; }
  bool cuda_aware() const { return started_.cuda_aware; }

  // A collective call of the ranks on `parent` (nullptr: the whole job).
  std::shared_ptr<Channel> open(const std::shared_ptr<Channel>& parent);
  // Returns when nobody uses memory of the channel's operations any more.
  void close(const std::shared_ptr<Channel>& channel) noexcept;

  void submit(const std::shared_ptr<Operation>& operation);
  // Blocks without polling until the operation has ended. At most one waits on a channel at a time. Throws
  // the failure, a PeerError at the deadline.
  void wait(const std::shared_ptr<Operation>& operation);

  void abort(const std::exception_ptr& reason) noexcept;

 private:
  using Lock = std::unique_lock<std::mutex>;
  struct Answer {
    int waits_for;
    std::uint64_t collectives;
  };
  struct Pause;

  // mpi_thread.cpp: the thread
  static std::shared_ptr<MpiThread> start();
  bool end();
  void run();
  void serve(Lock& lock);
  bool turn(Lock& lock);
  void rest(Lock& lock, Pause& pause, std::chrono::microseconds longest);
  void begin(const std::shared_ptr<Operation>& operation);
  void begin_message(const std::shared_ptr<Operation>& operation);
  void piece_ended(const std::shared_ptr<Operation>& operation, std::size_t expected,
                   const MPI_Status& status, int code);
  std::size_t operations_under_way() const;

  // peers.cpp: what the ranks tell each other, and who is missing
  void heard(int from, const Note& note);
  void look_for_missing(Lock& lock, const std::shared_ptr<Operation>& operation);
  void look_for_missing_peer(Lock& lock, const Operation& operation);
  void look_for_missing_in_collective(Lock& lock, const Operation& operation);
  void look_at_left(Lock& lock);
  std::map<int, Answer> ask(Lock& lock, const std::vector<int>& peers, std::uint64_t channel);

  // end.cpp: failures, and the end of it all
  void fail(Failure failure, int origin);
  void fail_here(Failure failure) { fail(std::move(failure), rank()); }
  void fall_silent(Lock& lock);
  void say_farewell(Lock& lock);
  void leave_together();
  static int leave_process(int status);
  int leave(int status);

  // Of the MPI thread.
  Requests requests_;
  Control control_;
  Started started_;  // like rank and size: written before the constructor's caller goes on
  std::vector<std::shared_ptr<Operation>> ended_;
  std::optional<Failure> found_;  // by a completion, on the way to failure_
  int question_ = 0;
  std::map<int, Answer> answers_;

  std::mutex mutex_;               // guards what follows
  std::condition_variable work_;   // for the MPI thread
  std::condition_variable state_;  // for those who wait for its start or end
  std::deque<std::shared_ptr<Operation>> submitted_;
  std::deque<std::shared_ptr<Operation>> overdue_;  // their deadline has passed
  std::map<std::uint64_t, std::shared_ptr<Channel>> channels_;
  std::map<int, Clock::time_point> left_;  // ranks that have said farewell
  Clock::time_point looked_at_left_;
  std::map<int, int> leaving_;  // ranks about to end after a failure, with their exit status
  bool ready_ = false, stop_ = false, ended_well_ = false;
  std::exception_ptr start_error_;
  std::optional<Failure> failure_;
  int origin_ = -1;      // the rank where it began
  bool silent_ = false;  // no MPI call is made any more but by leave()
  bool clean_ = false;   // and nothing was under way when that began
  std::optional<int> exit_status_;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace acp::mpi
