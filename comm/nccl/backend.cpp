// See backend.h.
#include "comm/nccl/backend.h"

namespace acp::nccl {

Backend::Backend(std::unique_ptr<Communicator> channel)
    : rank_(channel->rank()),
      size_(channel->size()),
      roll_call_(std::move(channel), [this](const Failure& failure) { note(failure); }) {}

std::string Backend::who_is_late() const {
  const RollCall::Late late = roll_call_.late();
  if (late.rank < 0) return "all ranks have started as many operations as this one";
  return "rank " + std::to_string(late.rank) + " has started " + std::to_string(late.theirs) +
         " operations, this rank " + std::to_string(late.mine);
}

void Backend::note(const Failure& failure) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = failure;
  failed_ = true;
}

void Backend::fail(const Failure& failure) noexcept {
  try {
    note(failure);
    roll_call_.abort(failure.exception());
  } catch (...) {  // no memory for the text: the peers still find this rank's operations missing
    failed_ = true;
  }
}

std::optional<Failure> Backend::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace acp::nccl
