// Sparse payloads: how indices and values of chosen elements lie on the wire.
//
// One message for a block of n values, little endian:
//   plain    u32 k, k x u32 indices ascending
//   packed   u8 form, k as a varint (7 bits a byte, low ones first), then by form
//     0 plain    k x u32
//     1 delta    u8 b, then Rice codes of the gaps: gap >> b as ones and a zero, b low bits;
//                bits from the lowest
//     2 bitmap   ceil(n / 8) bytes, element i is bit i % 8 of byte i / 8
//     3 all      nothing: k = n
//     4 shared   nothing: the receiver made the same choice
// followed by the values: k x float32, k x float16, powers (u8 largest exponent + 127, 4 bits each), or a
// quantiser's code. Padding bits are 0. A receiver trusts nothing: every reader throws DataError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace acp {

enum class IndexForm : std::uint8_t { automatic, plain, delta, bitmap, shared };
enum class ValueForm : std::uint8_t { fp32, fp16, power };

using Bytes = std::vector<std::byte>;

// Reads a payload from its beginning; DataError beyond its end.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}
  std::span<const std::byte> take(std::size_t count);
  std::uint8_t byte() { return std::to_integer<std::uint8_t>(take(1)[0]); }
  std::uint32_t word();
  std::uint64_t varint();
  std::span<const std::byte> rest() const { return rest_; }
  void end() const;  // DataError if something is left

 private:
  std::span<const std::byte> rest_;
};

// Indices of a block of n values: strictly increasing and below n; k comes with them.
void write_indices(std::span<const std::uint32_t> indices, std::int64_t n, IndexForm form, Bytes& out);
// `shared` holds the receiver's own choice; used by messages of that form alone.
void read_indices(Reader& in, std::int64_t n, IndexForm form, std::span<const std::uint32_t> shared,
                  std::vector<std::uint32_t>& indices);

// Rounds values to what the form can hold: float16 saturates; power takes powers of two as they are.
void round_values(std::span<float> values, ValueForm form);
void write_values(std::span<const float> values, ValueForm form, Bytes& out);
void read_values(Reader& in, std::size_t k, ValueForm form, std::vector<float>& values);

// Powers of two with plain indices, the published layout: u32 k, i32 largest exponent, k words of sign, 3
// bits of distance from it, 28 bits of index; the indices of a block are below 2^28.
constexpr std::int64_t most_words = std::int64_t{1} << 28U;
void write_words(std::span<const std::uint32_t> indices, std::span<const float> values, Bytes& out);
void read_words(Reader& in, std::int64_t n, std::vector<std::uint32_t>& indices, std::vector<float>& values);

// Expected length of such a message, for the planner.
double sparse_bytes(double k, double n, IndexForm form, double value_bytes);

}  // namespace acp
