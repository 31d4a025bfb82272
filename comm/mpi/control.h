// The control channel: short notes between any two ranks, on a communicator of their own.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comm/mpi/requests.h"

namespace acp::mpi {

struct Note {
  enum class Kind : std::int32_t {
    abort,     // text: why this rank fails everything
    farewell,  // this rank has destroyed its last transport
    leaving,   // after an abort: this rank is about to end; value: its exit status
    question,  // whom does your user wait for on `channel`? value: number of the question
    answer     // value: number of the question; waits_for, collectives
  };
  Kind kind = Kind::abort;
  std::int32_t value = 0;
  std::int32_t waits_for = 0;
  std::uint64_t channel = 0;
  std::uint64_t collectives = 0;  // native ones that this rank has started on the channel
  std::string text;               // cut to a few kB, so that a note never waits for its receiver
};

// For the MPI thread alone. One receive from any rank stands all the time; what arrives goes to `handler`,
// out of Requests::test(). A note that cannot be sent is dropped: its receiver is gone, and the deadline
// speaks.
class Control {
 public:
  using Handler = std::function<void(int from, const Note&)>;

  Control(Requests& requests, Handler handler);
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  // A collective call; blocks, as MPI_Init does.
  void open(MPI_Comm parent);
  // Ends the standing receive.
  void close();

  MPI_Comm comm() const { return comm_; }
  int rank() const { return rank_; }
  int size() const { return size_; }

  void send(int peer, const Note& note);
  void send_all(const Note& note);

 private:
  void post();
  void arrived(const MPI_Status& status, int code);

  Requests& requests_;
  Handler handler_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  bool closing_ = false;
  std::vector<std::byte> incoming_;
};

}  // namespace acp::mpi
