// Data sets by name: what a sample is, where a set's files lie, and which set a program takes by default. A
// data set is one .cpp file with a `const bool registered = register_data_set({...})`.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compressors/spec.h"

namespace acp::models {

// Samples side by side, on the CPU as they come from a data set.
struct Batch {
  std::vector<at::Tensor> inputs;  // each [size, ...]
  at::Tensor target;               // [size, ...]
  std::int64_t size = 0;           // number of samples

  // On that device, floating-point tensors as that type; integers stay integers.
  Batch to(at::Device device, at::ScalarType floating) const;
};

// One tensor of a sample, without the batch dimension.
struct TensorSpec {
  std::vector<std::int64_t> shape;
  // int64 numbers in [0, classes), and in a target -100 where there is nothing to predict; 0: float32
  // numbers, about standard normal.
  std::int64_t classes = 0;

  bool operator==(const TensorSpec&) const = default;
};

// What a model takes and a data set gives.
struct SampleSpec {
  std::vector<TensorSpec> inputs;
  TensorSpec target;

  bool operator==(const SampleSpec&) const = default;
};

// "1x28x28 -> one of 10 classes"
std::string to_string(const SampleSpec& sample);

// One part (training, evaluation) of a data set.
class Samples {
 public:
  virtual ~Samples() = default;
  virtual std::int64_t size() const = 0;
  // The samples with these numbers, each in [0, size()), normalised. What is drawn at random (augmentation,
  // negative samples) depends on the set's seed, the epoch and the sample's number alone; evaluations ask for
  // epoch 0. Callable from several threads at a time.
  virtual Batch get(std::span<const std::int64_t> indices, std::int64_t epoch) const = 0;
  // How many samples each class has; empty where there are no classes.
  virtual std::vector<std::int64_t> class_counts() const { return {}; }
  // Reads what loading leaves on disk until get() asks for it: DataError as get(), of the first bad sample.
  virtual void check() const {}
};

// How an epoch goes through the training samples.
enum class Order : std::uint8_t {
  shuffled,
  // Sample i + 1 goes on where sample i ends (text): each row of a rank's batches walks through a stretch of
  // its own, so that a model may carry its state from batch to batch.
  contiguous,
};

struct DataSet {
  std::string name;
  SampleSpec sample;
  std::shared_ptr<const Samples> train;
  std::shared_ptr<const Samples> eval;  // after each epoch: the validation part, or else the test part
  std::shared_ptr<const Samples> test;  // once, at the end; null where `eval` is all there is
  Order order = Order::shuffled;
  std::vector<std::string> facts{};  // for people, a line each: "vocabulary: 10000 words, ..."
};

// What a data set is asked for.
struct LoadOptions {
  // What the model takes by its keys; empty = the set's own choice. Synthetic data follow it whole, text
  // takes its sequence length from it, image folders their image size; other sets ignore it.
  SampleSpec wanted{};
  std::uint64_t seed = 42;  // of what is drawn at random; the same on all ranks
  bool augment = true;      // random crops, flips, ... of training samples, where the set has any
};

// Known before any file is read.
struct DataSetInfo {
  std::string name{};
  std::string summary{};
  std::vector<KeyInfo> keys{};  // `digits:train=6000`, `cifar100:labels=coarse`
  // Where the files may lie below a folder of sets; empty = built in, no files.
  std::vector<std::string> subfolders{};
  // Without ".gz"; a folder that has one of them holds the set. "train/" is a folder below it.
  std::vector<std::string> files{};
  std::filesystem::path system_folder{};  // where the system's package puts it; may be empty
  // Whether a folder with such files is this set; absent = it is. For sets that share their file names.
  std::function<bool(const std::filesystem::path& folder)> is_mine{};
  // Reads the set from its own folder (empty for built-in ones). DataError names the file, what was expected
  // and what was found.
  std::function<DataSet(const std::filesystem::path& folder, const Values&, const LoadOptions&)> load{};

  bool built_in() const { return subfolders.empty(); }
};

bool register_data_set(DataSetInfo info);  // returns true; Error if the name is taken

// In alphabetical order.
std::vector<const DataSetInfo*> data_sets();

// ConfigError on an unknown name: lists the known ones and the nearest match.
const DataSetInfo& find_data_set(std::string_view name);

// The folder of this set's files: `folder` itself or one below it; empty if it is not there.
std::filesystem::path locate(const DataSetInfo& set, const std::filesystem::path& folder);

// Which data a program takes, and why.
struct DataChoice {
  const DataSetInfo* set = nullptr;
  MethodSpec spec;               // name and keys
  std::filesystem::path folder;  // the set's own; empty for built-in sets
  std::string sentence;          // for people: "mnist from /data/mnist (--data)"
};

// `accepted`: names of the sets that the model takes, the preferred first. Taken is what `given` (the value
// of --data) says: a built-in set's specification such as "synthetic" or "digits:train=6000", a folder (a
// set's own, or the one that holds the sets), or the name and keys of a set with files ("cifar100",
// "cifar100:labels=coarse"), which is looked for in the folder ACP_DATA or where the system installs it.
// Without `given` what the environment variable ACP_DATA says counts; without that the first accepted set
// that the system has installed; else the first accepted built-in one other than "synthetic". DataError: the
// folder does not exist, or holds no accepted set. ConfigError: a set that is not accepted.
DataChoice choose_data(std::span<const std::string> accepted, const std::string& given);

// DataError as DataSetInfo::load. Whether the samples are what a model takes is ModelChoice::fit()'s to say.
DataSet load_data(const DataChoice& choice, const LoadOptions& options);

// Reads every known set in `folder` (as --data takes it), or the built-in set of that specification, and
// writes to `out`, per set, the folder, its facts and each part's samples and classes, or the error. Returns
// the number of errors; finding no set at all is one. DataError if the folder does not exist.
int check_data(const std::filesystem::path& folder, std::ostream& out);

}  // namespace acp::models
