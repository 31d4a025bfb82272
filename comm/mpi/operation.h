// What other threads hand to the MPI thread: channels and the operations on them.
#pragma once

#include <mpi.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace acp::mpi {

using Clock = std::chrono::steady_clock;

struct Operation;

// Whom a channel's user waits for, where it is not a rank. Also what a rank answers when it is asked.
enum Waiting : int { nobody = -1, in_collective = -2, never_opened = -3, already_closed = -4 };

// One communicator. All but `id` and `comm` is guarded by the MPI thread's mutex.
struct Channel {
  explicit Channel(std::uint64_t number) : id(number) {}

  const std::uint64_t id;           // the same on all ranks
  MPI_Comm comm = MPI_COMM_NULL;    // of the MPI thread
  std::condition_variable changed;  // what its user waits on
  const Operation* awaited = nullptr;
  Clock::time_point progress;     // when the wait began, or the last operation ended meanwhile
  std::uint64_t collectives = 0;  // native ones that its user has started here
  std::uint64_t children = 0;     // channels opened from this one
  int unfinished = 0;             // operations started and not ended
  bool closed = false;
};

// A message, a native collective, or a call that ends at once. Its memory stays valid until wait() has
// returned.
struct Operation {
  enum class Kind : std::uint8_t { send, receive, collective, call };

  Kind kind = Kind::call;
  std::shared_ptr<Channel> channel;
  const char* call = "";  // "MPI_Isend"; for messages to people

  int peer = -1;  // send and receive
  std::byte* data = nullptr;
  std::size_t size = 0;
  int tag = 0;

  std::function<int(MPI_Comm, MPI_Request*)> start;  // collective and call; on the MPI thread
  std::uint64_t number = 0;  // of a collective: how many were started on the channel before

  std::size_t open_pieces = 0;  // of the MPI thread
  bool asked = false;           // of the MPI thread: those who have left were asked whether they took part
  bool done = false;            // guarded by the MPI thread's mutex
};

}  // namespace acp::mpi
