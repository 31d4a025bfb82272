// The one thread of a process that makes MPI calls, and the operations that other threads hand to it.
#pragma once

#include <mpi.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace acp::mpi {

// Throws CommunicationError with the call's name and MPI's own text unless `code` is MPI_SUCCESS.
void check(int code, const char* call);

// A non-blocking operation: started on the MPI thread, then tested there until all of its requests are
// complete.
struct Operation {
  std::function<void(Operation&)> begin;  // fills `requests`
  std::vector<MPI_Request> requests;
  std::vector<MPI_Status> statuses;
  std::vector<int> codes;
  int peer = -1;      // who is waited for; -1 = all
  bool done = false;  // with `error`, or complete
  std::exception_ptr error;
};

// Shared by all transports of the process; the last one ends it. Starts MPI on its own thread (which thereby
// is MPI's main thread) and ends it there, unless the program had started MPI before. After an abort MPI is
// never finalised, which would hang: the process then ends with MPI_Abort and its own exit status.
class MpiThread {
 public:
  static std::shared_ptr<MpiThread> get();
  ~MpiThread();
  MpiThread(const MpiThread&) = delete;
  MpiThread& operator=(const MpiThread&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Hands an operation over; it and the memory it names stay alive until wait() has returned.
  void submit(const std::shared_ptr<Operation>& operation);
  // Blocks without polling. Throws the operation's error, the reason of an abort, or PeerError at the
  // deadline.
  void wait(const std::shared_ptr<Operation>& operation);
  // Submits and waits for a call that completes at once.
  void call(const std::function<void()>& body);

  // Fails everything here and, by a message on the control channel, on the peers. The first reason stands.
  void abort(std::exception_ptr reason) noexcept;
  bool aborted() const;

 private:
  MpiThread();
  void run();
  void start_mpi();
  void end_mpi();
  void begin_new(std::unique_lock<std::mutex>& lock);
  bool test_active();
  void test_control();
  void fail_all(const std::exception_ptr& reason);
  static void give_up(Operation& operation);
  void send_abort(const std::string& text);

  mutable std::mutex mutex_;
  std::condition_variable work_;      // for the MPI thread
  std::condition_variable finished_;  // for those who wait
  std::deque<std::shared_ptr<Operation>> submitted_;
  std::vector<std::shared_ptr<Operation>> active_;  // MPI thread only
  std::exception_ptr aborted_;
  bool abort_to_send_ = false;
  bool ready_ = false, stop_ = false;
  std::exception_ptr start_error_;
  int rank_ = 0, size_ = 1;
  bool started_here_ = false;
  MPI_Comm control_ = MPI_COMM_NULL;
  MPI_Request control_request_ = MPI_REQUEST_NULL;
  std::vector<char> control_text_;
  std::thread thread_;
};

}  // namespace acp::mpi
