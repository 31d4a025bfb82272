// Which part of a collective travels through the host in which round: index arithmetic alone.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/collective.h"

namespace acp {

// `count` elements at `device` of the caller's tensor and at `host` of the round's.
struct StagePiece {
  std::int64_t device = 0, host = 0, count = 0;
  bool operator==(const StagePiece&) const = default;
};

// One round is a collective of the same kind on tensors in the host's memory.
struct StageRound {
  std::vector<StagePiece> down, up;      // before and after it
  std::int64_t in = 0, out = 0;          // elements of its tensors
  std::vector<std::int64_t> in_counts;   // all_to_all_v
  std::vector<std::int64_t> out_counts;  // all_gather_v, all_to_all_v
  bool sends = false, receives = false;  // send_receive
};

// Rounds of at most about `elements` elements on the host; the same cut on every rank. `op` has passed
// check_shape() and is no barrier.
class StagePlan {
 public:
  StagePlan(const Collective& op, int rank, int size, std::int64_t elements);

  // At least one. Of an all_to_all_v, whose counts every rank knows only its own of, what this rank needs:
  // the ranks perform the most of them.
  std::int64_t rounds() const { return rounds_; }
  // From 0; beyond rounds() an empty one of the kind.
  StageRound round(std::int64_t index) const;

 private:
  Collective::Kind kind_;
  int rank_, size_, root_, send_to_, receive_from_;
  std::int64_t in_, out_;  // elements
  std::int64_t step_;      // elements of a piece in a round
  std::int64_t rounds_;
  std::vector<std::int64_t> in_counts_, out_counts_;
};

// The collective of a round, over tensors of its sizes (the same one for all_reduce and broadcast).
Collective stage_collective(const Collective& op, const StageRound& round, at::Tensor in, at::Tensor out);

}  // namespace acp
