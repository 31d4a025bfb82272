// The kernels of a GPU, by families, as one interface of plain pointers and sizes: no header of CUDA or torch
// is needed to call them. All pointers are of the device; work is queued on a stream, nothing waits for it.
//
// Implementations: CUDA (copy.cu, select.cu, ...; no_cuda.cpp in builds without nvcc), and one that runs
// the same kernel bodies on the host, block by block and thread by thread, for tests (tests/support).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "compressors/kernels/skinny.h"

namespace acp::device {

using kernels::Write;

// Where work goes: the number of a GPU and a cudaStream_t (null: its default stream).
struct Place {
  int device = 0;
  void* stream = nullptr;
};

// A float whose bits without the sign are at least this is not finite.
inline constexpr std::uint32_t infinite = 0x7f800000U;

enum class Type : std::uint8_t { float32, float16, bfloat16 };

// One stretch of a fused copy; the two do not overlap.
struct Copy {
  const void* from = nullptr;
  void* to = nullptr;
  std::int64_t count = 0;  // elements
};

// One stretch of error feedback. `from` may be null: `to` is only looked at.
struct Sum {
  float* to = nullptr;
  const float* from = nullptr;
  std::int64_t count = 0;
  std::uint32_t* largest =
      nullptr;  // becomes at least the largest magnitude's bits (kernels/select.h) of the sums
};

// The k largest magnitudes of x, exact, ascending by index, among equals the lower indices.
struct TopK {
  const float* x = nullptr;
  float* rest = nullptr;  // null, or what is left of x: zero at the chosen places
  std::uint32_t* indices = nullptr;
  float* values = nullptr;
  std::int64_t count = 0, k = 0;  // elements, below 2^32; 1 <= k <= count
};

// The chosen elements of all ranks as one sum: those of rank r begin r * stride bytes behind the first's, are
// ascending and k each. Indices that are not below `count` are passed over.
struct Scatter {
  const std::uint32_t* indices = nullptr;
  const float* values = nullptr;
  float* out = nullptr;  // written as a whole
  std::int64_t count = 0, k = 0;
};

// How values become few bits, as data: what quantisers of this kind share (bucketed.h, ef_sign_sgd.cpp, ...).
// Code of n values: `numbers` floats a bucket, then levels packed as in kernels/pack.h, then zeros up to a
// multiple of `align` bytes.
struct LevelCode {
  enum class Levels : std::uint8_t { sign, dither, range };
  enum class Numbers : std::uint8_t { none, mean, halves, norm, largest, range };
  Levels levels = Levels::sign;
  Numbers numbers = Numbers::none;
  int bits = 1, top = 1;    // top: the largest level, of either sign with `dither`
  std::int64_t bucket = 0;  // values with numbers of their own; 0 = all
  int align = 1;
  bool stochastic = false;
  float least_unit = 0;  // range: a smaller unit counts as 0

  bool operator==(const LevelCode&) const = default;
};

// One block of values in one code.
struct Encode {
  const float* x = nullptr;
  float* rest = nullptr;      // null, or x: there what the code lacks is left
  std::byte* code = nullptr;  // a multiple of 4
  std::int64_t count = 0;
  std::uint32_t key[2] = {0, 0};  // of Philox, for stochastic rounding
};

// One block of values in the codes of all ranks, r * stride bytes apart.
struct Decode {
  const std::byte* codes = nullptr;
  // Bit `flag` of the bytes here, also r * stride apart, says whether rank r takes part; null: all do.
  const std::byte* flags = nullptr;
  std::int64_t flag = 0;
  float* out = nullptr;  // written as a whole
  std::int64_t count = 0;
  const float* base = nullptr;  // null, or what the sums begin with; perhaps `out`
};

// What becomes of a sum over ranks: divided, or its sign.
struct Combined {
  float divisor = 1;
  bool majority = false;
};

// `basis` = orthonormal basis of the rows of `vectors`, both rank x length (orthogonalize.h has the rules).
struct Basis {
  const float* vectors = nullptr;
  float* basis = nullptr;
  std::int64_t length = 0;
  int rank = 0;  // 1 .. widest, at most length
};

// A matrix and its factors (low_rank.h): matrix n x m, P r x n, Q r x m.
struct Product {
  float* matrix = nullptr;
  const float* added = nullptr;  // null, or like the matrix: matrix += added comes first
  float* p = nullptr;
  float* q = nullptr;
  std::int64_t n = 0, m = 0;
  int r = 0;  // 1 .. widest
};

inline constexpr int widest = 64;

class Kernels {
 public:
  virtual ~Kernels() = default;

  // Fused pack and unpack: to[i] = scale * from[i], computed in float32, rounded once.
  virtual void copy(std::span<const Copy> pieces, Type from, Type to, float scale, Place place) const = 0;

  // to += scale * from, product and sum rounded one by one.
  virtual void accumulate(std::span<const Sum> sums, float scale, Place place) const = 0;
  // *number becomes NaN if *largest is not finite.
  virtual void spoil(float* number, const std::uint32_t* largest, Place place) const = 0;

  // `scratch` has top_k_scratch() bytes (select.h).
  virtual void top_k(std::span<const TopK> parts, std::byte* scratch, Place place) const = 0;
  virtual void scatter(std::span<const Scatter> parts, int ranks, std::int64_t stride, Combined combined,
                       Place place) const = 0;

  // `scratch` has encode_scratch() bytes (code.h).
  virtual void encode(std::span<const Encode> parts, const LevelCode& code, std::byte* scratch,
                      Place place) const = 0;
  virtual void decode(std::span<const Decode> parts, const LevelCode& code, int ranks, std::int64_t stride,
                      Combined combined, Place place) const = 0;

  virtual void orthogonalize(std::span<const Basis> parts, Place place) const = 0;

  // p = M Q, or q = M^T P; `scratch` has project_scratch() bytes (low_rank.h; only the second needs it).
  virtual void times_q(std::span<const Product> parts, Place place) const = 0;
  virtual void times_p(std::span<const Product> parts, std::byte* scratch, Place place) const = 0;
  // M = P Q^T, or M += or -= it: bit for bit as the CPU has it.
  virtual void outer(std::span<const Product> parts, Write write, Place place) const = 0;
};

// Those of CUDA; null in builds without nvcc.
const Kernels* cuda_kernels();

}  // namespace acp::device
