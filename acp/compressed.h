// One call for one tensor: compresses it, averages it over the ranks, and keeps what compression left out for
// the next call. For programs that do without the reducer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "compressors/compressor.h"

namespace acp {

// Error memory, random numbers and whatever else a method keeps belong to a name. All ranks construct alike
// and call with the same names in the same order, from one thread at a time. Uses the context of the thread
// that constructs it, which must outlive it.
class Compressed {
 public:
  // `spec` as Options::compressor(); `memory`: "none", "residual", "dgc", empty = the method's own. A tensor
  // is a block of its own, so granularity means nothing here. ConfigError as CompressorFactory.
  explicit Compressed(std::string_view spec, std::string memory = "", std::uint64_t seed = 42);
  ~Compressed();
  Compressed(Compressed&&) noexcept;
  Compressed& operator=(Compressed&&) noexcept;

  // `tensor` (floating, on the CPU, of any layout in memory) becomes about its mean over the ranks. A name
  // belongs to one shape and dtype: ConfigError otherwise, and, at the first call, on all ranks alike if
  // they do not agree on these. DataError names a tensor that is NaN or infinite where the method would keep
  // it; the other ranks are aborted then.
  void all_reduce(const at::Tensor& tensor, const std::string& name);

  // For restarts: by name, of this rank. load_state() works also for names that have not been called yet.
  State state() const;
  void load_state(const State& state);

  std::uint64_t payload_bytes() const;  // inputs of all collectives so far, on this rank

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace acp
