// Every setting of gradient reduction, with its default. One setter for each; setters chain.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comm/collective.h"
#include "fusion/events.h"

namespace acp {

class Options {
 public:
  // Compressor specification, e.g. "acpsgd:rank=4"; docs/compressors.md has all keys.
  Options& compressor(std::string spec) { return compressor_ = std::move(spec), *this; }
  // Error feedback: "none", "residual", "dgc"; empty = the method's own.
  Options& memory(std::string name) { return memory_ = std::move(name), *this; }
  // Policy specification, e.g. "lgreco:interval=200"; docs/policies.md has all. Policies count reductions.
  Options& policy(std::string spec) { return policy_ = std::move(spec), *this; }
  // The run, for policies that ask for its parts: reductions in an epoch (or start_epoch() is called), epochs
  // in all, and the reductions of a run that has no epochs.
  Options& steps_per_epoch(std::int64_t n) { return steps_per_epoch_ = n, *this; }
  Options& epochs(std::int64_t n) { return epochs_ = n, *this; }
  Options& steps(std::int64_t n) { return steps_ = n, *this; }
  // What compressors that select or quantise code together: "layer" (each parameter), "bucket", "model" (all
  // parameters in one bucket); empty = the method's own.
  Options& granularity(std::string name) { return granularity_ = std::move(name), *this; }
  // Gradients with NaN or infinite values. "auto": compressors that keep something from step to step refuse
  // them with a DataError that names rank and parameter, dense ones hand them on, as DDP does; "error":
  // always an error; "skip": the step is left out on all ranks (GradientReducer::skipped()). Nothing overlaps
  // then.
  Options& nonfinite(std::string what) { return nonfinite_ = std::move(what), *this; }
  // Megabytes (2^20 bytes) of gradient in a bucket; scaled by wire / gradient bytes when compressed. 0 = one
  // tensor each. "auto": rank 0 chooses in the first step, by the cost of the link and the times at which its
  // gradients arrived (docs/tuning.md); ConfigError for any other text that is no number.
  Options& fusion_mb(double mb) { return fusion_mb_ = mb, fusion_auto_ = false, *this; }
  Options& fusion_mb(const std::string& text);
  // false: nothing is sent before the backward pass has ended.
  Options& overlap(bool on) { return overlap_ = on, *this; }
  Options& algorithm(Algorithm a) { return algorithm_ = a, *this; }
  Options& algorithm(const std::string& name);  // one of algorithm_names(), or ConfigError
  // Gradients are reduced in every n-th backward pass; the passes in between add up locally.
  Options& backward_passes_per_step(int n) { return backward_passes_ = n, *this; }
  Options& seed(std::uint64_t s) { return seed_ = s, *this; }
  // Clips this rank's gradient to this global norm before error feedback and compression; 0 = off. Nothing
  // overlaps then.
  Options& clip_local(double norm) { return clip_local_ = norm, *this; }
  // false: no hooks; reduce() compresses and averages what is in .grad.
  Options& hooks(bool on) { return hooks_ = on, *this; }
  // Measures what compression leaves out in each step (ReducerStatistics::compression_error); costs passes
  // over the gradients.
  Options& compression_error(bool on) { return compression_error_ = on, *this; }
  // Buckets in flight at once on the engine: 1 = one after the other.
  Options& window(int n) { return window_ = n, *this; }
  Options& events(EventSink sink) { return events_ = std::move(sink), *this; }

  const std::string& compressor() const { return compressor_; }
  const std::string& memory() const { return memory_; }
  const std::string& policy() const { return policy_; }
  std::optional<std::int64_t> steps_per_epoch() const { return steps_per_epoch_; }
  std::optional<std::int64_t> epochs() const { return epochs_; }
  std::optional<std::int64_t> steps() const { return steps_; }
  const std::string& granularity() const { return granularity_; }
  const std::string& nonfinite() const { return nonfinite_; }
  double fusion_mb() const { return fusion_mb_; }  // unless fusion_auto()
  bool fusion_auto() const { return fusion_auto_; }
  bool overlap() const { return overlap_; }
  Algorithm algorithm() const { return algorithm_; }
  int backward_passes_per_step() const { return backward_passes_; }
  std::uint64_t seed() const { return seed_; }
  double clip_local() const { return clip_local_; }
  bool hooks() const { return hooks_; }
  bool compression_error() const { return compression_error_; }
  int window() const { return window_; }
  const EventSink& events() const { return events_; }

  // ConfigError names the first setting that makes no sense.
  void check() const;

 private:
  std::string compressor_ = "none", memory_, policy_ = "uniform", granularity_, nonfinite_ = "auto";
  double fusion_mb_ = 25, clip_local_ = 0;
  bool fusion_auto_ = false, overlap_ = true, hooks_ = true, compression_error_ = false;
  Algorithm algorithm_ = Algorithm::automatic;
  int backward_passes_ = 1, window_ = 2;
  std::optional<std::int64_t> steps_per_epoch_, epochs_, steps_;
  std::uint64_t seed_ = 42;
  EventSink events_;
};

// "auto" -> Algorithm::automatic, "ring", "native", "doubling", ...; ConfigError names the known ones.
Algorithm parse_algorithm(const std::string& name);
std::string to_string(Algorithm algorithm);
const std::vector<std::string>& algorithm_names();

}  // namespace acp
