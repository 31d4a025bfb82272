// What Power-SGD and ACP-SGD share: where the factors of a bucket lie, its error memory, its saved state.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

#include "compressors/compressor.h"
#include "compressors/cuda/kernels.h"
#include "compressors/low_rank.h"
#include "compressors/residual.h"

namespace acp {

// P has an entry per row of the matrix, Q one per column.
enum class Side : std::uint8_t { p, q };

constexpr Side other(Side side) {
  return side == Side::p ? Side::q : Side::p;
}

struct LowRankOptions {
  std::int64_t rank = 4;  // effective: min(rank, n, m)
  // Whether a matrix is worth compressing at its effective rank; a level set by a policy overrules it.
  std::function<bool(const Slice& slice, std::int64_t rank)> worthwhile;
  bool error_memory = true;
  bool input_survives = false;  // the input is still needed after the first gradient has been written
  bool measure_error = false;   // error_norms()
  std::uint64_t start = 0;      // dense steps before the first compressed one
  std::uint64_t seed = 0;       // of the first P and Q, the same on all ranks
};

// Mean bytes per step of one tensor: `numbers` gives those of a compressed matrix at its effective rank.
double low_rank_bytes(std::span<const std::int64_t> shape, std::int64_t element_size,
                      const LowRankOptions& options,
                      const std::function<double(const Slice& slice, std::int64_t rank)>& numbers);

// Whether a tensor of this shape is compressed by these options.
bool low_rank_compresses(std::span<const std::int64_t> shape, const LowRankOptions& options);

// State and steps of a low-rank exchange; the exchange itself is the subclass's. Everything is computed in
// float32, for float64 buckets in float64. Slices that are not compressed ("plain") are averaged exactly, in
// the message that carries the first factor. A rank without a slice's gradient takes part with its error
// memory alone.
class LowRankCompressor : public Compressor {
 public:
  State state() const final;            // "error"; of compressed slices also "p" (n x r) and "q" (m x r)
  void load_state(const State&) final;  // of another rank: leading columns as far as they go
  // Ranks; empty = plain. Error memory and leading columns stay, further columns come from the seed.
  void set_levels(std::span<const Level> levels) final;
  at::Tensor error_memory() const final;

 protected:
  LowRankCompressor(const Bucket& bucket, LowRankOptions options);

  // One factor of all compressed slices, flat.
  struct Factor {
    at::Tensor value;           // what the ranks share: the random start, later averages
    at::Tensor basis;           // its orthonormal form
    at::Tensor local;           // what this rank contributed last
    at::Tensor message;         // what is sent: the factors, the plain slices, the count of missing gradients
    at::Tensor factors, count;  // these parts of the message
  };
  const Factor& factor(Side side) const { return side == Side::p ? p_ : q_; }
  const LowRankOptions& options() const { return options_; }
  bool compresses() const { return p_.value.numel() > 0; }
  bool has_error_memory() const { return residual_.has_value(); }

  // What says whether gradients are finite and there. The CPU looks and throws. Kernels of a GPU only take
  // note of what they find, NaN in the count of missing gradients tells it to all ranks, and the host learns
  // it from missing(), with which it has to wait anyway.

  // First thing in a dense step: DataError that names the first gradient of this rank that is not finite.
  void check_all(const Bucket& bucket, int rank) const;
  // First thing in a compressed step: the same of those that no projection shows.
  void check_input(const Bucket& bucket, int rank) const;
  // After project(), before anything is sent: the same of the others, and of an input that has overflowed.
  void check_local(const Bucket& bucket, Side moving, int rank) const;
  // Writes the count of missing gradients.
  void announce(const Bucket& bucket, const at::Tensor& count) const;
  // Whether some rank misses a gradient, of the reduced count; DataError if it is NaN.
  bool missing(const Bucket& bucket, const at::Tensor& count, int rank) const;

  // The steps of an exchange, in their usual order. `moving` is the factor that is sent, the other one is
  // fixed.

  // basis = orthonormal basis of the value.
  void orthogonalize(Side side);
  // basis = orthonormal basis of random numbers drawn for this step; the value stays.
  void draw_basis(Side side, std::uint64_t step);
  // Input = gradient + error memory: of plain slices here, of the others by the first project(), in the pass
  // over memory that it makes anyway.
  void take_input(const Bucket& bucket);
  // P = input Q or Q = input^T P with the fixed basis; to `local` and into the message.
  void project(const Bucket& bucket, Side moving);
  // Of the factor that ends a round: the norms. With B the fixed orthonormal basis, |M - B (B^T M)|^2 = |M|^2
  // - |B^T M|^2.
  void count_lost(Side moving);
  // The plain slices and the count of missing gradients join the message.
  void pack(const Bucket& bucket, Side moving);
  // The reduced plain slices become gradients.
  void unpack(Bucket& bucket, Side moving);
  // The reduced factors become the value; those of slices that nobody used stay as they were.
  void accept(const Bucket& bucket, Side moving);
  // Input -= P Q^T of this rank's own factor: what is left is the error, or the input of another round.
  void subtract_own(const Bucket& bucket, Side moving);
  // The same of the error memory, after the last round: done by the next step's first project(), in the pass
  // that it makes anyway, or when somebody asks for the memory. That step sends the other factor, so both are
  // still there.
  void owe_own(const Bucket& bucket, Side moving);
  // Gradient = P Q^T, or += P Q^T, of the shared factor.
  void reconstruct(Bucket& bucket, Side moving, Write write);
  // Input -= gradient: the error against the shared result.
  void subtract_shared(const Bucket& bucket);
  // Gradients of another dtype take the result.
  void write_back(Bucket& bucket);

  std::optional<std::uint64_t>
      prepared;  // step for which prepare() has been called; empty after a change of state

 private:
  struct Part {
    std::int64_t rank = 0;                 // 0 = plain
    std::int64_t p = 0, q = 0, plain = 0;  // where it begins in the flat factors and among the plain numbers
  };
  void lay_out(const std::vector<std::int64_t>& ranks);
  void allocate(Factor& factor, std::int64_t factors, std::int64_t plain);
  std::int64_t length(Side side, std::size_t k) const;
  at::Tensor part(Side side, const at::Tensor& flat, std::size_t k) const;  // rank x length
  at::Tensor plain_part(Side side, std::size_t k) const;
  at::Tensor input(const Bucket& bucket) const;   // flat
  at::Tensor output(const Bucket& bucket) const;  // flat
  void draw(const at::Tensor& flat, Side side, std::uint64_t step, std::size_t k, std::int64_t first) const;
  // A slice's matrix in `flat` with its factors, `moving` from there and the fixed basis; all that are in
  // use.
  Factored factored(std::size_t k, const at::Tensor& flat, Side moving, const at::Tensor& from) const;
  std::vector<Factored> in_use(const Bucket& bucket, const at::Tensor& flat, Side moving,
                               const at::Tensor& from) const;
  void settle() const;                   // what owe_own() left to do
  void note(const at::Tensor& x) const;  // its largest magnitude, in largest_
  [[noreturn]] void refuse(const Bucket& bucket, int rank) const;
  bool touches(const Bucket& bucket, std::size_t k) const {
    return parts_[k].rank > 0 && bucket.used[k] != 0;
  }

  LowRankOptions options_;
  std::vector<Slice> slices_;
  std::vector<Part> parts_;
  at::TensorOptions type_;  // of the computation
  at::Tensor buffer_;       // both messages, one at a time
  Factor p_, q_;
  std::optional<Residual> residual_;
  at::Tensor scratch_;  // the input, where neither error memory nor gradients can hold it
  at::Tensor result_;   // where the gradients have another dtype
  bool fresh_ = false;  // project() has yet to add the gradients
  // Slices whose own product the error memory has yet to lose, none if empty, and which factor was sent.
  mutable std::vector<bool> owed_;
  Side owed_side_ = Side::p;
  const device::Kernels* kernels_ = nullptr;  // of a GPU, where they do the work
  at::Tensor largest_;                        // with them: of all magnitudes so far, as bits
};

}  // namespace acp
