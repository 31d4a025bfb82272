// What a gradient compressor is: a function from a bucket to the collectives that average it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "comm/exchange.h"
#include "compressors/bucket.h"

namespace acp {

// What an exchange knows about its step. `step` counts reductions from 0 and is the same on all ranks.
struct StepContext {
  int rank = 0, size = 1;
  std::uint64_t step = 0;
  std::uint64_t seed = 0;  // the same on all ranks
};

// What a restart needs: parameter name -> kind ("error", "p", "q", ...) -> tensor.
using State = std::map<std::string, std::map<std::string, at::Tensor>>;

// A setting chosen by a policy for one slice: rank, ratio or bits, as the method's knob says; empty = dense.
using Level = std::optional<double>;

// As a level: the method's own setting. What policies give methods without a knob after dense steps.
inline constexpr double own_level = std::numeric_limits<double>::quiet_NaN();

// What compression cost one rank in one step: squared norms of what its message lacks and of what was to be
// sent (gradient and error memory).
struct ErrorNorms {
  double lost = 0, input = 0;
};

// Over the layers of a bucket: the sum of their L2 norms and of the norms' squares.
struct LayerNorms {
  double sum = 0, squares = 0;
  void add(double square) {
    sum += std::sqrt(square);
    squares += square;
  }
};

// What a step's probes found, of this rank.
struct ProbeNorms {
  LayerNorms gradient, input;    // input: gradient and error memory
  std::vector<LayerNorms> kept;  // of each probe's choice
};

// One instance per bucket, so per-bucket state is plain members. The engine's thread calls everything here,
// except state() and load_state(), which are called between steps.
class Compressor {
 public:
  virtual ~Compressor() = default;

  // Work of the coming step that needs no gradient (ACP-SGD orthogonalises its fixed factor); overlaps with
  // the forward pass. Called once before each exchange().
  virtual void prepare(Bucket&, const StepContext&) {}

  // Replaces bucket.grads by (an approximation of) its average over the ranks. The first message carries
  // bucket.missing(); see Bucket::used. Bytes of all collectives' inputs are the step's payload.
  virtual Exchange exchange(Bucket& bucket, StepContext context) = 0;

  // Copies of everything that must survive a restart, keyed by parameter name; rank-local.
  virtual State state() const { return {}; }

  // Takes back what state() gave, for the parameters of this bucket; what is absent stays as it is.
  // ConfigError names a tensor whose shape does not fit.
  virtual void load_state(const State&) {}

  // Settings per slice, between steps. Methods without a knob throw ConfigError at a level that is neither
  // dense nor own_level.
  virtual void set_levels(std::span<const Level> levels);

  // Whether levels may change before this step (a method whose steps differ may have to wait for one).
  virtual bool may_change(std::uint64_t /*step*/) const { return true; }

  // Norms that policies decide by: kept fractions, descending, whose choices from this step's input are
  // measured in every exchange from the next on, beside what is sent. ConfigError where there is no ratio.
  virtual void set_probes(std::span<const double> ratios);
  const ProbeNorms& probe_norms() const { return probe_norms_; }  // of the last step

  // How many elements that are not zero this rank's message of the last step stood for, as LEGACY reports
  // it; -1 for methods that do not choose elements.
  std::int64_t sent_elements() const { return sent_elements_; }

  // What this rank adds the coming gradient to before it is compressed, laid out like the gradients: the
  // error memory, with what momentum adds to it. Not to be changed; undefined where there is none.
  virtual at::Tensor error_memory() const { return {}; }

  // Whether the first message of a step ends with the count of missing gradients, which is no payload.
  virtual bool sends_missing_count() const { return true; }

  // Of the last step, with CompressorOptions::measure_error: zeros otherwise, and of methods that lose
  // nothing.
  const ErrorNorms& error_norms() const { return norms_; }

 protected:
  ErrorNorms norms_;
  ProbeNorms probe_norms_;
  std::int64_t sent_elements_ = -1;

  // What exchange() awaits: `co_await all_reduce(x)`. The arguments are those of Collective's functions.
  static Collective all_reduce(at::Tensor x, ReduceOp op = ReduceOp::sum) {
    return Collective::all_reduce(std::move(x), op);
  }
  static Collective reduce_scatter(at::Tensor x, at::Tensor mine, ReduceOp op = ReduceOp::sum) {
    return Collective::reduce_scatter(std::move(x), std::move(mine), op);
  }
  static Collective all_gather(at::Tensor mine, at::Tensor all) {
    return Collective::all_gather(std::move(mine), std::move(all));
  }
  static Collective all_gather_v(at::Tensor mine, at::Tensor all, std::vector<std::int64_t> counts) {
    return Collective::all_gather_v(std::move(mine), std::move(all), std::move(counts));
  }
  static Collective all_to_all(at::Tensor mine, at::Tensor theirs) {
    return Collective::all_to_all(std::move(mine), std::move(theirs));
  }
  static Collective all_to_all_v(at::Tensor mine, std::vector<std::int64_t> mine_counts, at::Tensor theirs,
                                 std::vector<std::int64_t> their_counts) {
    return Collective::all_to_all_v(std::move(mine), std::move(mine_counts), std::move(theirs),
                                    std::move(their_counts));
  }
  static Collective send_receive(int to, at::Tensor mine, int from, at::Tensor theirs) {
    return Collective::send_receive(to, std::move(mine), from, std::move(theirs));
  }
  static Collective broadcast(at::Tensor x, int root = 0) {
    return Collective::broadcast(std::move(x), root);
  }
};

}  // namespace acp
