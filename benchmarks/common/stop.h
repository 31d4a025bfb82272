// SIGINT and SIGTERM: the ranks finish their step and end together.
#pragma once

#include <chrono>
#include <cstdint>

#include "acp/context.h"

namespace acp::programs {

// While alive, the first SIGINT or SIGTERM is only noted; the second one ends the process as usual. One
// object per process (per rank, where ranks are threads: all note the same signal).
class StopRequest {
 public:
  StopRequest();
  ~StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  // The signal that reached any rank, or 0; the same answer on all ranks. Called by all ranks after every
  // step: communicates (one small all-reduce) only every quarter of a second or so, by a count that rank 0
  // chooses.
  int poll(const Context& context);
  // The same, communicating now.
  int poll_now(const Context& context);
  // Whether a signal has reached this process, for leaving long work of its own early.
  bool noted() const;

 private:
  std::uint64_t until_next_ = 1, interval_ = 1;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace acp::programs
