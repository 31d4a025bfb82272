// What quantisers with a scale for every so many values share.
#pragma once

#include <array>
#include <string_view>

#include "compressors/codec.h"
#include "compressors/kernels/levels.h"

namespace acp {

// Code: for each bucket of consecutive values `numbers` floats, then the levels of all values, packed, then
// zeros up to a multiple of `align` bytes.
class BucketedQuantiser : public Quantiser {
 public:
  std::size_t bytes(std::int64_t n) const final;
  void encode(std::span<const float> x, const Block& block, std::span<std::byte> code) final;
  void encode_and_keep(std::span<float> y, const Block& block, std::span<std::byte> code) final;
  void decode(std::span<const std::byte> code, std::span<float> out) const final;

 protected:
  using Numbers = std::array<float, 2>;

  struct Layout {
    std::string_view method;  // for messages
    std::size_t numbers = 1;  // 1 or 2 a bucket
    std::size_t bucket = 0;   // values; 0 = all
    std::size_t align = 1;
    bool stochastic = false;
  };
  BucketedQuantiser(Layout layout, int bits) : layout_(layout), bits_(bits) {}

  // The numbers of a bucket.
  virtual Numbers measure(std::span<const float> bucket) const = 0;
  // `words` as in kernels/levels.h.
  virtual void to_levels(std::span<const float> x, const Numbers& numbers, kernels::Words words,
                         std::uint8_t* levels) const = 0;
  virtual void to_values(const std::uint8_t* levels, const Numbers& numbers, std::span<float> out) const = 0;
  // DataError unless measure() could have given them.
  virtual void check(const Numbers& numbers) const = 0;
  virtual unsigned largest_level() const = 0;

  void change_bits(int bits) { bits_ = bits; }
  int bits() const { return bits_; }

 private:
  struct Places;
  Places places(std::size_t n) const;
  void encode(std::span<const float> x, float* rest, const Block& block, std::span<std::byte> code) const;

  Layout layout_;
  int bits_;
};

}  // namespace acp
