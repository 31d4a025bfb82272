// What the channels of one nccl backend share: the roll call, and the first failure.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "comm/failure.h"
#include "comm/roll_call.h"

namespace acp::nccl {

// Any thread.
class Backend {
 public:
  // `channel`: of the host's backend, for the roll call alone.
  explicit Backend(std::unique_ptr<Communicator> channel);

  int rank() const { return rank_; }
  int size() const { return size_; }

  // One more operation has been started here.
  void started() { roll_call_.started(); }
  // ": rank 2 has started 17 of these operations, this rank 19"; or that all have started theirs.
  std::string who_is_late() const;

  // The first failure of any channel stands, and is told to the peers (by the host's backend).
  void fail(const Failure& failure) noexcept;
  std::optional<Failure> failure() const;
  bool failed() const { return failed_; }

 private:
  void note(const Failure& failure);

  const int rank_, size_;
  std::atomic<bool> failed_ = false;
  mutable std::mutex mutex_;
  std::optional<Failure> failure_;
  RollCall roll_call_;  // last: its thread uses the above
};

}  // namespace acp::nccl
