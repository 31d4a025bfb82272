// The two kinds of parts that coded compressors are made of: what selects elements (Sparsifier), and what
// writes values with few bits (Quantiser). Everything else (error memory, granularity, exchange, wire format)
// is shared: codec_compressor.cpp puts a sparsifier, a quantiser, or one of each into a Compressor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "compressors/compressor.h"
#include "compressors/cuda/kernels.h"
#include "compressors/philox.h"

namespace acp {

// The values that are coded together: one parameter, a bucket or the whole model (granularity), always
// contiguous float32. `name` is the same on all ranks and keys random numbers and state.
struct Block {
  std::string_view name;
  std::vector<std::int64_t> shape;  // of the parameter; {n} for several together
  const StepContext* step = nullptr;
  // Elements that this rank has no gradient of in this step (their y is 0), ascending: state stays as it is.
  struct Range {
    std::size_t begin = 0, count = 0;
  };
  std::span<const Range> absent{};
  // The sum over samples of (gradient of the sample / number of samples)^2; empty if nobody counted.
  std::span<const float> squares{};

  // Random numbers of this block and step: the same on all ranks, or this rank's own.
  Philox shared(Purpose purpose) const { return {step->seed, name, step->step, purpose}; }
  Philox own(Purpose purpose) const {
    return {step->seed, name, step->step, purpose, static_cast<std::uint32_t>(step->rank) + 1};
  }
};

// Elements chosen for sending, in ascending order of index, each once.
struct Selection {
  std::vector<std::uint32_t> indices;
  std::vector<float> values;  // what is sent for them; most methods: y at the index

  void clear() {
    indices.clear();
    values.clear();
  }
};

// Chooses what a rank sends. One instance per block, so state of one tensor is plain members.
class Sparsifier {
 public:
  virtual ~Sparsifier() = default;

  // `y` is the gradient with the error memory added, `gradient` the gradient alone (AdaComp's rule uses
  // both). All values are finite. `chosen` is empty. Nothing chosen is legal.
  virtual void select(std::span<const float> y, std::span<const float> gradient, const Block& block,
                      Selection& chosen) = 0;

  // What the message stands for at the chosen places, once coded: for those that keep the rest themselves.
  virtual void sent(std::span<const std::uint32_t>, std::span<const float>) {}

  // Whether what is left out may be kept and sent later; not where sent values are enlarged for it.
  virtual bool allows_memory() const { return true; }

  // The choice is a function of what all ranks share (random-k): indices do not travel, values are
  // all-reduced.
  virtual bool shared_choice() const { return false; }

  // Every value that select() gives is a power of two with its sign, at most 2^7 below the largest: 4 bits
  // each on the wire.
  virtual bool powers_of_two() const { return false; }

  // For the kernels of a GPU: k, where select() chooses the k elements of largest magnitude of n, whatever
  // they are.
  virtual std::optional<std::int64_t> kept_largest(std::int64_t /*n*/) const { return std::nullopt; }

  // Policies: the kept fraction; ConfigError where the method has none.
  virtual void set_ratio(double ratio);

  // Multi-level compression: what a smaller fraction would keep, chosen from what a larger one has chosen
  // (`from`), not from all of y. Here: the largest, of n `ratio` elements, n being y's.
  virtual void narrow(std::span<const float> y, const Block& block, double ratio, const Selection& from,
                      Selection& chosen);
  // Whether that is what select() itself would choose (or, of random choices, has its distribution); else it
  // serves to measure alone.
  virtual bool narrows_exactly() const { return false; }

  // What select() keeps between steps besides the error memory (variance), by kind; of a block of `count`
  // values. ConfigError if what was saved does not fit.
  virtual void save(std::map<std::string, at::Tensor>&) const {}
  virtual void load(const std::map<std::string, at::Tensor>&, std::int64_t /*count*/) {}

 protected:
  // For narrow(): the k largest of `from`, or all of them.
  static void largest_of(const Selection& from, std::size_t k, Selection& chosen);
};

// How the decoded values of the ranks become one.
enum class Combine : std::uint8_t { mean, sum, majority };

// Writes values with few bits. One instance per block.
class Quantiser {
 public:
  virtual ~Quantiser() = default;

  // Length of the code of n values: a function of n and the settings alone; 0 for n = 0.
  virtual std::size_t bytes(std::int64_t n) const = 0;

  // Before a step's coding, of a whole block: what is to be coded in place of y (signum's momentum).
  virtual void prepare(std::span<float>) {}

  // Writes code.size() == bytes(x.size()) bytes. All values are finite. Padding bits are 0. Repeatable: the
  // same block, step, rank and values give the same bytes.
  virtual void encode(std::span<const float> x, const Block& block, std::span<std::byte> code) = 0;

  // encode(y), and what the code lacks stays in y: y -= decoded. Methods that can do both in one pass
  // override it.
  virtual void encode_and_keep(std::span<float> y, const Block& block, std::span<std::byte> code);

  // The values that the code stands for. DataError if it cannot be a code of out.size() values.
  virtual void decode(std::span<const std::byte> code, std::span<float> out) const = 0;

  virtual Combine combine() const { return Combine::mean; }

  // For the kernels of a GPU: what describes encode() and decode() wholly; nothing where they have no such
  // form.
  virtual std::optional<device::LevelCode> level_code() const { return std::nullopt; }

  // Policies: bits per value; ConfigError where the method has none.
  virtual void set_bits(double bits);

  virtual void save(std::map<std::string, at::Tensor>&) const {}
  virtual void load(const std::map<std::string, at::Tensor>&) {}
};

}  // namespace acp
