// What the engine reports while it works: the raw material of traces, metrics and the tests of overlap.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

namespace acp {

struct Event {
  enum class Kind : std::uint8_t {
    backward_begin,    // first gradient of a step arrived
    bucket_ready,      // last gradient of a bucket arrived
    encode,            // local work of an exchange before one of its collectives: begin .. end
    decode,            // local work after its last collective
    collective_start,  // handed to the communicator
    collective,        // from start() to completion, as the engine saw it
    backward_end,      // synchronize() was entered
    synchronize,       // the user's thread waited: begin .. end
  };
  Kind kind;
  std::uint64_t step = 0;
  int bucket = -1;
  int round = 0;           // of the exchange
  std::int64_t bytes = 0;  // collective: of its input on this rank
  std::chrono::steady_clock::time_point begin, end;
};

// Called from the thread on which the event happened; must be quick and thread-safe.
using EventSink = std::function<void(const Event&)>;

}  // namespace acp
