// Saves and restores a training run: model, optimizer, the reducer's error memories, place in the run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "acp/gradient_reducer.h"

namespace torch::nn {
class Module;
}
namespace torch::optim {
class Optimizer;
}

namespace acp {

// What a checkpoint holds. What a null pointer stands for is neither saved nor restored; restoring something
// that the checkpoint lacks is an error.
struct TrainingState {
  torch::nn::Module* model = nullptr;            // parameters and buffers, rank 0's
  torch::optim::Optimizer* optimizer = nullptr;  // options and state, rank 0's; a DistributedOptimizer too
  GradientReducer* reducer = nullptr;            // of every rank: optimizer.reducer()
  std::uint64_t step = 0, epoch = 0, seed = 0;   // rank 0's
  std::string meta = "{}";                       // JSON, rank 0's: whatever the program wants back
  std::string local;                             // bytes, of every rank; empty where a rank has no part
};

// What a checkpoint says of itself.
struct CheckpointInfo {
  std::filesystem::path folder;
  std::uint64_t step = 0, epoch = 0, seed = 0;
  int world_size = 1;
  std::string meta = "{}";
};

// The checkpoints of one run, in one directory. A checkpoint is a folder DIRECTORY/NNNNNN-step-S:
//   model.pt       rank 0: a dictionary from names to tensors, as torch.save(model.state_dict()) writes it
//   optimizer.pt   rank 0: what the optimizer's save() writes
//   rank-R.pt      every rank: the reducer's state, the states of torch's default generators, `local`
//   manifest.json  step, epoch, seed, world size, meta, and size and hash of each file; written last
// A folder without manifest is none, so a program that is killed at any moment leaves the checkpoints before
// intact.
//
// All calls are collective, in the order of collectives.h; an error is thrown on every rank. Only rank 0's
// file system has to have the shared files; each rank reads and writes its own part on its own.
//
// Another world size: model, optimizer and place are rank 0's anyway. Ranks that have a part take it (error
// memories are a rank's own); new ranks take from rank 0's part what all ranks share (factors, step
// counters), start with empty error memories, and keep their generator as it is. Parts of ranks that are no
// more are left out.
class Checkpoints {
 public:
  // The newest `keep` are kept (at least 1). Nothing is read or made yet.
  explicit Checkpoints(std::filesystem::path directory, int keep = 3);

  // Writes a checkpoint, then removes those beyond `keep` and what killed saves have left. Between steps.
  // Returns its folder. DataError: a file cannot be written. ConfigError: `meta` is no JSON, the optimizer
  // cannot be saved.
  std::filesystem::path save(const TrainingState& state) const;

  // The newest one, on every rank as rank 0 sees it; empty if there is none. For programs that decide by
  // `meta` whether to restore it. DataError: its manifest is damaged.
  std::optional<CheckpointInfo> newest() const;

  // Restores the newest one into `state` and what it points to; false if there is none. torch's generator
  // too. DataError names the file, and the key in it, that is missing, damaged or does not fit; what `state`
  // points to may be half restored then.
  bool load(TrainingState& state) const;

  // The same for a certain one, as save() returned it.
  void load(TrainingState& state, const std::filesystem::path& checkpoint) const;

 private:
  std::filesystem::path directory_;
  int keep_;
};

}  // namespace acp
