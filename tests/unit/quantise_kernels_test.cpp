// Every form of the quantising kernels against the plain one, bit by bit, at sizes around their blocks.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "compressors/kernels/levels.h"
#include "compressors/kernels/moments.h"
#include "compressors/kernels/natural.h"
#include "compressors/kernels/pack.h"
#include "compressors/kernels/random.h"
#include "compressors/philox.h"
#include "tests/catch.h"
#include "tests/support/kernel_form.h"
#include "tests/support/print_bytes.h"

using namespace acp;
using Bytes = std::vector<std::uint8_t>;

namespace {

constexpr std::size_t sizes[] = {0, 1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 100, 255, 256, 1000, 4099};

// Normal numbers with zeros of both signs, subnormals and the largest and smallest among them.
std::vector<float> numbers(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (auto& value : x) {
    value = normal(random);
    const auto kind = random() % 40;
    if (kind == 0) value = 0;
    if (kind == 1) value = -0.0F;
    if (kind == 2) value *= std::numeric_limits<float>::denorm_min() * 100;
    if (kind == 3)
      value = value < 0 ? std::numeric_limits<float>::lowest() : std::numeric_limits<float>::max();
  }
  return x;
}

std::vector<std::uint32_t> words(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint32_t> result(n);
  for (auto& word : result) word = static_cast<std::uint32_t>(random());
  return result;
}

template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

}  // namespace

TEST_CASE("signs are packed first element lowest, -0 as positive", "[unit][kernels]") {
  const std::vector<float> x{1, -1, 0, -0.0F, -3, -4, -5, -6, 2, -2};
  std::vector<std::byte> bits(2);
  kernels::pack_signs_plain(x, bits.data());
  CHECK(std::to_integer<int>(bits[0]) == 0b00001101);
  CHECK(std::to_integer<int>(bits[1]) == 0b01);
}

TEST_CASE("packing of signs: all forms alike", "[unit][kernels]") {
  const UseForm form(GENERATE(from_range(kernels::forms())));
  for (const auto n : sizes) {
    CAPTURE(n);
    const auto x = numbers(n, static_cast<unsigned>(n));
    // A byte more than needed shows writes beyond the end.
    std::vector<std::byte> plain(kernels::packed_bytes(n, 1) + 1, std::byte{0x5a}), fast = plain;
    kernels::pack_signs_plain(x, plain.data());
    kernels::pack_signs(x, fast.data());
    CHECK(plain == fast);
    CHECK(plain.back() == std::byte{0x5a});

    std::vector<float> out_plain(n), out(n);
    kernels::unpack_signs_plain(plain.data(), 1.5F, -2.5F, out_plain);
    kernels::unpack_signs(plain.data(), 1.5F, -2.5F, out);
    CHECK(same(out_plain, out));
    bool right = true;
    for (std::size_t i = 0; i < n; ++i) right = right && out[i] == (x[i] >= 0 ? 1.5F : -2.5F);
    CHECK(right);

    auto rest_plain = x, rest = x;
    kernels::pack_signs_keep_plain(rest_plain, 1.5F, -2.5F, plain.data());
    kernels::pack_signs_keep(rest, 1.5F, -2.5F, fast.data());
    CHECK(plain == fast);
    CHECK(same(rest_plain, rest));
    right = true;
    for (std::size_t i = 0; i < n; ++i) right = right && rest[i] == x[i] - out[i];
    CHECK(right);
  }
}

TEST_CASE("packing of levels: all forms alike, and the layout is that of little-endian groups of 8",
          "[unit][kernels]") {
  const UseForm form(GENERATE(from_range(kernels::forms())));
  for (int bits = 1; bits <= 8; ++bits) {
    for (const auto n : sizes) {
      CAPTURE(bits, n);
      Bytes levels(n);
      const auto random = words(n, static_cast<unsigned>(n) + 1);
      for (std::size_t i = 0; i < n; ++i)
        levels[i] = static_cast<std::uint8_t>(random[i] & ((1U << bits) - 1));
      const auto size = kernels::packed_bytes(n, bits);
      std::vector<std::byte> plain(size + 1, std::byte{0x5a}), fast = plain;
      kernels::pack_levels_plain(levels, bits, plain.data());
      kernels::pack_levels(levels, bits, fast.data());
      CHECK(plain == fast);
      CHECK(plain.back() == std::byte{0x5a});
      bool right = true;
      for (std::size_t i = 0; i < n; ++i) {
        for (int b = 0; b < bits; ++b) {
          const auto place = i * static_cast<std::size_t>(bits) + static_cast<std::size_t>(b);
          const auto bit = std::to_integer<unsigned>(plain[place / 8]) >> (place % 8) & 1U;
          right = right && bit == (static_cast<unsigned>(levels[i]) >> b & 1U);
        }
      }
      CHECK(right);
      Bytes back_plain(n), back(n);
      kernels::unpack_levels_plain(plain.data(), bits, back_plain);
      kernels::unpack_levels(plain.data(), bits, back);
      CHECK(back_plain == levels);
      CHECK(back == levels);
    }
  }
  CHECK(kernels::largest_level(Bytes{}) == 0);
  CHECK(kernels::largest_level(Bytes{3, 9, 1}) == 9);
}

TEST_CASE("random words: all forms alike, from any start, and those of Philox", "[unit][kernels]") {
  const UseForm form(GENERATE(from_range(kernels::forms())));
  const std::array<std::uint32_t, 2> key{0x12345678, 0x9abcdef0};
  std::vector<std::uint32_t> all(5000);
  kernels::random_words_plain(key, 0, all);
  for (const std::uint64_t i : {0, 7, 8, 31, 32, 4999}) {
    const auto counter = static_cast<std::uint32_t>(i / 32 * 8 + i % 8);
    CHECK(all[i] == Philox::rounds({counter, 0, 0, 0}, key)[i % 32 / 8]);
  }
  for (const std::size_t first : {0, 1, 31, 32, 100}) {
    for (const auto n : sizes) {
      std::vector<std::uint32_t> fast(n);
      kernels::random_words(key, first, fast);
      CAPTURE(first, n);
      CHECK(std::equal(fast.begin(), fast.end(), all.begin() + static_cast<std::ptrdiff_t>(first)));
    }
  }
  // Counters beyond 32 bits.
  const std::uint64_t far = (std::uint64_t{1} << 34U) - 64;
  std::vector<std::uint32_t> plain(128), fast(128);
  kernels::random_words_plain(key, far, plain);
  kernels::random_words(key, far, fast);
  CHECK(same(plain, fast));
}

TEST_CASE("sums and extremes: all forms alike", "[unit][kernels]") {
  const UseForm form(GENERATE(from_range(kernels::forms())));
  for (const auto n : sizes) {
    CAPTURE(n);
    const auto x = numbers(n, 7 + static_cast<unsigned>(n));
    CHECK(same_bits(kernels::sum_abs(x), kernels::sum_abs_plain(x)));
    CHECK(same_bits(kernels::sum_sq(x), kernels::sum_sq_plain(x)));
    CHECK(same_bits(kernels::largest_abs(x), kernels::largest_abs_plain(x)));
    const auto range = kernels::range(x), range_plain = kernels::range_plain(x);
    CHECK(same_bits(range.min, range_plain.min));
    CHECK(same_bits(range.max, range_plain.max));
    const auto halves = kernels::halves(x), halves_plain = kernels::halves_plain(x);
    CHECK(halves.negatives == halves_plain.negatives);
    CHECK(halves.negative == halves_plain.negative);
    CHECK(halves.other == halves_plain.other);
    const auto moments = kernels::moments(x), moments_plain = kernels::moments_plain(x);
    CHECK(same_bits(moments.sum, moments_plain.sum));
    CHECK(same_bits(moments.squares, moments_plain.squares));
    CHECK(same_bits(moments.largest, moments_plain.largest));
  }
  const std::vector<float> equal(100, 0.1F);
  CHECK(kernels::moments(equal).squares == 0);
  const auto zeros = kernels::range(std::vector<float>(40, -0.0F));
  CHECK_FALSE(std::signbit(zeros.min));
}

TEST_CASE("levels: all forms alike", "[unit][kernels]") {
  const UseForm form(GENERATE(from_range(kernels::forms())));
  for (const auto n : sizes) {
    const auto x = numbers(n, 11 + static_cast<unsigned>(n));
    const auto random = words(n, 12);
    for (const bool stochastic : {false, true}) {
      CAPTURE(n, stochastic);
      const kernels::Words draws = stochastic ? kernels::Words(random) : kernels::Words();
      Bytes plain(n), fast(n);
      std::vector<float> out_plain(n), out(n);
      for (const float unit : {0.1F, 1e-30F, 1e38F}) {
        const float min = n == 0 ? 0 : kernels::range(x).min;
        for (const float origin : {-5.0F, min}) {
          if (origin > min) continue;
          kernels::range_levels_plain(x, origin, unit, 255, draws, plain.data());
          kernels::range_levels(x, origin, unit, 255, draws, fast.data());
          CHECK(plain == fast);
          kernels::range_values_plain(plain.data(), origin, unit, out_plain);
          kernels::range_values(plain.data(), origin, unit, out);
          CHECK(same(out_plain, out));
        }
      }
      for (const int top : {1, 7, 127}) {
        for (const float norm : {2.0F, 1e-44F, std::numeric_limits<float>::max()}) {
          kernels::signed_levels_plain(x, norm, top, draws, plain.data());
          kernels::signed_levels(x, norm, top, draws, fast.data());
          CHECK(plain == fast);
          CHECK(kernels::largest_level(plain) <= 2 * top);
          kernels::signed_values_plain(plain.data(), norm, top, out_plain);
          kernels::signed_values(plain.data(), norm, top, out);
          CHECK(same(out_plain, out));
        }
      }
      if (!stochastic) continue;
      for (const float scale : {2.0F, 1e-44F}) {
        kernels::ternary_levels_plain(x, scale, draws, plain.data());
        kernels::ternary_levels(x, scale, draws, fast.data());
        CHECK(plain == fast);
        kernels::ternary_values_plain(plain.data(), scale, out_plain);
        kernels::ternary_values(plain.data(), scale, out);
        CHECK(same(out_plain, out));
      }
    }
  }
}

TEST_CASE("rounding to levels: halves up, never beyond the last", "[unit][kernels]") {
  const std::vector<float> x{0, 0.49F, 0.5F, 1.4F, 1.5F, 2.9F, 3, 9, std::numeric_limits<float>::max()};
  Bytes levels(x.size());
  kernels::range_levels(x, 0, 1, 3, {}, levels.data());
  CHECK(levels == Bytes{0, 0, 1, 1, 2, 3, 3, 3, 3});
  const std::vector<float> y{0, -0.0F, 1, -1, 0.24F, -0.26F, 2};
  levels.resize(y.size());
  kernels::signed_levels(y, 1, 2, {}, levels.data());
  CHECK(levels == Bytes{2, 2, 4, 0, 2, 1, 4});
}

TEST_CASE("powers of two: all forms alike", "[unit][kernels]") {
  const UseForm form(GENERATE(from_range(kernels::forms())));
  for (const auto n : sizes) {
    const auto x = numbers(n, 13 + static_cast<unsigned>(n));
    const auto random = words(n, 14);
    for (const bool stochastic : {false, true}) {
      const kernels::Draws draws{stochastic ? std::span<const std::uint32_t>(random)
                                            : std::span<const std::uint32_t>()};
      Bytes plain(n), fast(n);
      for (const bool signed_zero : {false, true}) {
        const int lowest = signed_zero ? 18 : 17;
        kernels::natural_codes_plain(x, lowest, signed_zero, draws, plain.data());
        kernels::natural_codes(x, lowest, signed_zero, draws, fast.data());
        CHECK(plain == fast);
        std::vector<float> out_plain(n), out(n);
        kernels::natural_values_plain(plain.data(), lowest, out_plain);
        kernels::natural_values(plain.data(), lowest, out);
        CHECK(same(out_plain, out));
      }
      kernels::natural_exponents_plain(x, draws, plain.data());
      kernels::natural_exponents(x, draws, fast.data());
      CHECK(plain == fast);
    }
  }
}
