// Writing and reading of sparse payloads.
#include "compressors/sparse_wire.h"

#include <c10/util/Half.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include "comm/error.h"

namespace acp {
namespace {

enum Packed : std::uint8_t { packed_plain, packed_delta, packed_bitmap, packed_all, packed_shared };

[[noreturn]] void refuse(const std::string& what) {
  throw DataError("a sparse payload is corrupt: " + what);
}

template <class Number>
void append(std::span<const Number> numbers, Bytes& out) {
  const auto bytes = std::as_bytes(numbers);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_varint(std::uint64_t value, Bytes& out) {
  for (; value >= 128; value >>= 7U) out.push_back(std::byte(value & 127U) | std::byte{128});
  out.push_back(std::byte(value));
}

// Bits from the lowest; whole words go out at once.
class BitWriter {
 public:
  explicit BitWriter(Bytes& out) : out_(out) {}
  void put(std::uint64_t bits, unsigned count) {  // at most 56
    pending_ |= bits << filled_;
    filled_ += count;
    if (filled_ < 8) return;
    const auto whole = filled_ / 8;
    const auto at = out_.size();
    out_.resize(at + whole);
    std::memcpy(&out_[at], &pending_, whole);
    pending_ = whole == 8 ? 0 : pending_ >> (whole * 8);
    filled_ -= whole * 8;
  }
  void flush() {
    if (filled_ > 0) out_.push_back(std::byte(pending_));
    pending_ = filled_ = 0;
  }

 private:
  Bytes& out_;
  std::uint64_t pending_ = 0;
  unsigned filled_ = 0;
};

class BitReader {
 public:
  explicit BitReader(std::span<const std::byte> in) : in_(in) {}
  unsigned ones() {  // how many ones before the next zero, which is taken, too
    unsigned total = 0;
    for (;;) {
      fill();
      const auto run = static_cast<unsigned>(std::countr_one(pending_));
      if (run < filled_) {
        drop(run + 1);
        return total + run;
      }
      total += filled_;
      drop(filled_);
      if (at_ == in_.size()) refuse("it ends inside an index");
    }
  }
  std::uint32_t bits(unsigned count) {  // at most 32
    fill();
    if (filled_ < count) refuse("it ends inside an index");
    const auto value = static_cast<std::uint32_t>(pending_ & ((std::uint64_t{1} << count) - 1));
    drop(count);
    return value;
  }
  std::size_t bytes() const { return at_ - filled_ / 8; }  // begun ones
  bool padding_is_zero() const { return (pending_ & ((1U << (filled_ % 8)) - 1)) == 0; }

 private:
  void fill() {
    for (; filled_ <= 48 && at_ < in_.size(); filled_ += 8) {
      pending_ |= std::to_integer<std::uint64_t>(in_[at_++]) << filled_;
    }
  }
  void drop(unsigned count) {
    pending_ >>= count;
    filled_ -= count;
  }
  std::span<const std::byte> in_;
  std::size_t at_ = 0;
  std::uint64_t pending_ = 0;
  unsigned filled_ = 0;
};

std::uint32_t gap(std::span<const std::uint32_t> indices, std::size_t i) {
  return i == 0 ? indices[0] : indices[i] - indices[i - 1] - 1;
}

// Low bits of a Rice code for this mean gap: the parameter that is best for geometric gaps.
unsigned rice_bits(double n, double k) {
  return static_cast<unsigned>(std::clamp(std::floor(std::log2(std::max(n / k * 0.69, 1.0))), 0.0, 31.0));
}

void write_delta(std::span<const std::uint32_t> indices, unsigned low, Bytes& out) {
  out.push_back(std::byte(low));
  BitWriter bits(out);
  const std::uint32_t mask = static_cast<std::uint32_t>((std::uint64_t{1} << low) - 1);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const auto distance = gap(indices, i);
    auto high = distance >> low;
    for (; high >= 16; high -= 16) bits.put(0xffff, 16);
    bits.put((std::uint64_t{1} << high) - 1, high + 1);
    bits.put(distance & mask, low);
  }
  bits.flush();
}

void write_bitmap(std::span<const std::uint32_t> indices, std::int64_t n, Bytes& out) {
  const auto at = out.size();
  out.resize(at + static_cast<std::size_t>((n + 7) / 8));
  for (const auto index : indices) out[at + index / 8] |= std::byte(1U << (index % 8));
}

void read_delta(Reader& in, std::int64_t n, std::size_t k, std::vector<std::uint32_t>& indices) {
  const unsigned low = in.byte();
  if (low > 31) refuse("an index code of " + std::to_string(low) + " low bits");
  BitReader bits(in.rest());
  std::int64_t next = 0;
  for (std::size_t i = 0; i < k; ++i) {
    next += (static_cast<std::int64_t>(bits.ones()) << low) + bits.bits(low);
    if (next >= n) refuse("index " + std::to_string(next) + " of " + std::to_string(n));
    indices.push_back(static_cast<std::uint32_t>(next++));
  }
  if (!bits.padding_is_zero()) refuse("padding that is not zero");
  in.take(bits.bytes());
}

void read_bitmap(Reader& in, std::int64_t n, std::size_t k, std::vector<std::uint32_t>& indices) {
  const auto map = in.take(static_cast<std::size_t>((n + 7) / 8));
  for (std::size_t at = 0; at < map.size(); ++at) {
    for (auto bits = std::to_integer<unsigned>(map[at]); bits != 0; bits &= bits - 1) {
      indices.push_back(static_cast<std::uint32_t>(at * 8) +
                        static_cast<std::uint32_t>(std::countr_zero(bits)));
    }
  }
  if (indices.size() != k) {
    refuse("a bitmap of " + std::to_string(indices.size()) + " for " + std::to_string(k) + " values");
  }
}

void read_plain(Reader& in, std::size_t k, std::vector<std::uint32_t>& indices) {
  if (k > in.rest().size() / 4) refuse("it ends inside its indices");
  const auto bytes = in.take(4 * k);
  indices.resize(k);
  if (k > 0) std::memcpy(indices.data(), bytes.data(), bytes.size());
}

void check_order(std::span<const std::uint32_t> indices, std::int64_t n) {
  std::int64_t before = -1;
  for (const auto index : indices) {
    if (index <= before) refuse("indices that do not increase");
    before = index;
  }
  if (before >= n) refuse("index " + std::to_string(before) + " of " + std::to_string(n));
}

}  // namespace

std::span<const std::byte> Reader::take(std::size_t count) {
  if (count > rest_.size()) {
    refuse(std::to_string(count) + " more bytes expected, " + std::to_string(rest_.size()) + " there");
  }
  const auto result = rest_.first(count);
  rest_ = rest_.subspan(count);
  return result;
}

std::uint32_t Reader::word() {
  std::uint32_t value = 0;
  std::memcpy(&value, take(4).data(), 4);
  return value;
}

std::uint64_t Reader::varint() {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 63; shift += 7) {
    const std::uint64_t part = byte();
    value |= (part & 127U) << shift;
    if (part < 128) return value;
  }
  refuse("a number without end");
}

void Reader::end() const {
  if (!rest_.empty()) refuse(std::to_string(rest_.size()) + " bytes too many");
}

void write_indices(std::span<const std::uint32_t> indices, std::int64_t n, IndexForm form, Bytes& out) {
  const std::size_t k = indices.size();
  if (form == IndexForm::plain) {
    const auto count = static_cast<std::uint32_t>(k);
    append(std::span(&count, 1), out);
    append(indices, out);
    return;
  }
  const double dn = static_cast<double>(n), dk = static_cast<double>(std::max<std::size_t>(k, 1));
  const unsigned low = rice_bits(dn, dk);
  auto packed = packed_delta;
  if (form == IndexForm::shared) {
    packed = packed_shared;
  } else if (static_cast<std::int64_t>(k) == n) {
    packed = packed_all;
  } else if (form == IndexForm::bitmap) {
    packed = packed_bitmap;
  } else if (form == IndexForm::automatic) {
    std::uint64_t bits = std::uint64_t{k} * (low + 1);
    for (std::size_t i = 0; i < k; ++i) bits += gap(indices, i) >> low;
    const auto delta = 1 + (bits + 7) / 8, bitmap = static_cast<std::uint64_t>((n + 7) / 8);
    if (bitmap < delta) packed = packed_bitmap;
    if (4 * k <= std::min(delta, bitmap)) packed = packed_plain;
  }
  out.push_back(std::byte(packed));
  append_varint(k, out);
  if (packed == packed_plain) append(indices, out);
  if (packed == packed_delta) write_delta(indices, low, out);
  if (packed == packed_bitmap) write_bitmap(indices, n, out);
}

void read_indices(Reader& in, std::int64_t n, IndexForm form, std::span<const std::uint32_t> shared,
                  std::vector<std::uint32_t>& indices) {
  indices.clear();
  const auto packed = form == IndexForm::plain ? std::uint8_t{packed_plain} : in.byte();
  const std::uint64_t k = form == IndexForm::plain ? in.word() : in.varint();
  if (k > static_cast<std::uint64_t>(n)) {
    refuse(std::to_string(k) + " values for a block of " + std::to_string(n));
  }
  if ((packed == packed_shared) != (form == IndexForm::shared)) refuse("another form of indices than agreed");
  indices.reserve(k);
  switch (packed) {
    case packed_plain:
      read_plain(in, k, indices);
      check_order(indices, n);
      break;
    case packed_delta:
      read_delta(in, n, k, indices);
      break;
    case packed_bitmap:
      read_bitmap(in, n, k, indices);
      check_order(indices, n);
      break;
    case packed_all:
      if (k != static_cast<std::uint64_t>(n)) refuse("\"all\" of another block");
      indices.resize(k);
      std::iota(indices.begin(), indices.end(), 0U);
      break;
    case packed_shared:
      if (k != shared.size()) refuse("another shared choice");
      indices.assign(shared.begin(), shared.end());
      break;
    default:
      refuse("unknown form " + std::to_string(packed));
  }
}

void round_values(std::span<float> values, ValueForm form) {
  if (form != ValueForm::fp16) return;
  for (auto& value : values) value = static_cast<float>(c10::Half(std::clamp(value, -65504.0F, 65504.0F)));
}

void write_values(std::span<const float> values, ValueForm form, Bytes& out) {
  if (form == ValueForm::fp32) return append(values, out);
  const auto at = out.size();
  if (form == ValueForm::fp16) {
    out.resize(at + 2 * values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const c10::Half half(values[i]);
      std::memcpy(&out[at + 2 * i], &half.x, 2);
    }
    return;
  }
  if (values.empty()) return;
  int top = 0;
  for (const float value : values) {
    top = std::max(top, static_cast<int>((std::bit_cast<std::uint32_t>(value) >> 23U) & 255U));
  }
  out.resize(at + 1 + (values.size() + 1) / 2);
  out[at] = std::byte(top);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    const auto down = static_cast<unsigned>(top) - ((bits >> 23U) & 255U);
    if (down > 7 || (bits & 0x7fffffU) != 0) throw Error("a value for the wire is no power of two in range");
    out[at + 1 + i / 2] |= std::byte(((bits >> 31U) << 3U | down) << (i % 2 * 4));
  }
}

void read_values(Reader& in, std::size_t k, ValueForm form, std::vector<float>& values) {
  values.resize(k);
  if (k == 0) return;
  if (form == ValueForm::fp32) {
    std::memcpy(values.data(), in.take(4 * k).data(), 4 * k);
  } else if (form == ValueForm::fp16) {
    const auto bytes = in.take(2 * k);
    for (std::size_t i = 0; i < k; ++i) {
      c10::Half half;
      std::memcpy(&half.x, &bytes[2 * i], 2);
      values[i] = static_cast<float>(half);
    }
  } else {
    const unsigned top = in.byte();
    const auto bytes = in.take((k + 1) / 2);
    for (std::size_t i = 0; i < k; ++i) {
      const auto code = (std::to_integer<unsigned>(bytes[i / 2]) >> (i % 2 * 4)) & 15U;
      if (top <= (code & 7U) || top == 255) refuse("an exponent out of range");
      values[i] = std::bit_cast<float>((code >> 3U) << 31U | (top - (code & 7U)) << 23U);
    }
    if (k % 2 == 1 && (std::to_integer<unsigned>(bytes[k / 2]) >> 4U) != 0)
      refuse("padding that is not zero");
  }
  for (const float value : values) {
    if (!std::isfinite(value)) refuse("a value that is not finite");
  }
}

void write_words(std::span<const std::uint32_t> indices, std::span<const float> values, Bytes& out) {
  int top = -127;
  for (const float value : values) {
    top = std::max(top, static_cast<int>((std::bit_cast<std::uint32_t>(value) >> 23U) & 255U) - 127);
  }
  const auto count = static_cast<std::uint32_t>(values.size());
  const std::int32_t exponent = values.empty() ? 0 : top;
  append(std::span(&count, 1), out);
  append(std::span(&exponent, 1), out);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    const auto down = static_cast<unsigned>(top + 127) - ((bits >> 23U) & 255U);
    if (down > 7 || (bits & 0x7fffffU) != 0) throw Error("a value for the wire is no power of two in range");
    const std::uint32_t word = (bits & 0x80000000U) | down << 28U | indices[i];
    append(std::span(&word, 1), out);
  }
}

void read_words(Reader& in, std::int64_t n, std::vector<std::uint32_t>& indices, std::vector<float>& values) {
  const std::uint64_t k = in.word();
  const auto top = static_cast<std::int32_t>(in.word());
  if (k > static_cast<std::uint64_t>(n))
    refuse(std::to_string(k) + " words for a block of " + std::to_string(n));
  if (top < -126 || top > 127) refuse("an exponent out of range");
  indices.clear();
  values.clear();
  for (std::uint64_t i = 0; i < k; ++i) {
    const auto word = in.word();
    indices.push_back(word & (most_words - 1));
    const auto exponent = top + 127 - static_cast<std::int32_t>(word >> 28U & 7U);
    if (exponent < 1) refuse("an exponent out of range");
    values.push_back(
        std::bit_cast<float>((word & 0x80000000U) | static_cast<std::uint32_t>(exponent) << 23U));
  }
  check_order(indices, n);
}

double sparse_bytes(double k, double n, IndexForm form, double value_bytes) {
  if (form == IndexForm::plain) return 4 + 4 * k + value_bytes;
  const double head = k < 128 ? 2 : k < 16384 ? 3 : 4;
  if (form == IndexForm::shared || k >= n) return head + value_bytes;
  const double low = rice_bits(n, std::max(k, 1.0));
  const double delta = 1 + std::ceil((k * (low + 1) + n / std::exp2(low) * 0.5) / 8),
               bitmap = std::ceil(n / 8);
  if (form == IndexForm::bitmap) return head + bitmap + value_bytes;
  return head + (form == IndexForm::delta ? delta : std::min({delta, bitmap, 4 * k})) + value_bytes;
}

}  // namespace acp
