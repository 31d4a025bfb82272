// How far a run has come.
#pragma once

#include <cstdint>

namespace acp::programs {

// Where in the run the next step lies; what a resumed run goes on from.
struct Position {
  std::int64_t step = 0;               // steps done
  std::int64_t epoch = 0;              // the one in progress
  std::int64_t batch = 0;              // batches of it done
  std::int64_t samples_per_batch = 0;  // over all ranks, of the run that counted `batch`
  double loss_sum = 0;                 // of this rank's steps of the epoch in progress
  std::int64_t loss_steps = 0;
  double train_loss = 0;  // mean over ranks and steps of the last complete epoch
};

}  // namespace acp::programs
