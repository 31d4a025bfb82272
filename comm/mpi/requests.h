// All requests that are under way in this process, of all channels, tested together. For the MPI thread
// alone.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace acp::mpi {

class Requests {
 public:
  enum class Kind : std::uint8_t { send, receive, collective, note_send, note_receive };

  // `code` is MPI_SUCCESS or what went wrong with this request. May add requests; must not throw.
  using Completion = std::function<void(const MPI_Status& status, int code)>;

  void add(Kind kind, MPI_Request request, Completion completion);

  // One MPI_Testsome over everything; runs the completions of what has ended. False if nothing had.
  bool test();

  // Cancels what can be cancelled of a kind: receives that no message has met yet. They complete in test().
  void cancel(Kind kind);

  std::size_t count(Kind kind) const { return counts_[static_cast<std::size_t>(kind)]; }
  // Everything but the standing receive of the control channel.
  std::size_t under_way() const { return requests_.size() - count(Kind::note_receive); }

 private:
  struct Entry {
    Kind kind;
    Completion completion;
  };
  struct Ended {
    Completion completion;
    MPI_Status status;
    int code;
  };

  std::vector<MPI_Request> requests_;  // as MPI wants them: one array
  std::vector<Entry> entries_;         // of the same indexes
  std::size_t counts_[5] = {};
  std::vector<int> indexes_;
  std::vector<MPI_Status> statuses_;
  std::vector<Ended> ended_;
};

}  // namespace acp::mpi
