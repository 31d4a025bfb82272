// Ranks that tell each other now and then how far they are, so that whoever waits knows for whom.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "comm/communicator.h"
#include "comm/failure.h"

namespace acp {

// For backends whose own waits cannot tell (NCCL): over a channel of another backend, which notices a lost
// process by itself. Collective: all ranks make and destroy theirs.
class RollCall {
 public:
  // `channel` is used for nothing else. `lost` is called at most once, on the thread of the roll call, when a
  // rank is gone or has aborted.
  RollCall(std::unique_ptr<Communicator> channel, std::function<void(const Failure&)> lost);
  // Says good-bye; waits for the others for at most 2 s.
  ~RollCall();
  RollCall(const RollCall&) = delete;
  RollCall& operator=(const RollCall&) = delete;

  // One more operation has been started here. Any thread.
  void started();

  // As of the last call: a rank that has started fewer operations than this one, the furthest behind; -1 when
  // all have come as far. Any thread.
  struct Late {
    int rank = -1;
    std::int64_t theirs = 0, mine = 0;
  };
  Late late() const;

  // Fails the channel, and so all ranks' roll calls, with `reason`. Never throws.
  void abort(std::exception_ptr reason) noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace acp
