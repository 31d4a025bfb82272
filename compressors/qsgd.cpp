// `qsgd`: random dithering; each bucket's norm, and of each value its sign and a level between 0 and the
// norm.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "comm/error.h"
#include "compressors/bucketed.h"
#include "compressors/code.h"
#include "compressors/coded_method.h"
#include "compressors/kernels/moments.h"
#include "compressors/kernels/random.h"

namespace acp {
namespace {

constexpr int most_packed = 127;  // levels of either sign that fit into 8 bits

struct Settings {
  explicit Settings(const Values& values)
      : bucket(values.integer("bucket", 0, std::int64_t{1} << 32)),
        stochastic(values.choice("rounding", std::vector<std::string>{"stochastic", "nearest"}) ==
                   "stochastic"),
        euclidean(values.choice("norm", std::vector<std::string>{"2", "max"}) == "2") {
    const auto bits = values.integer("bits", 2, 8);
    const auto given = values.integer("levels", 0, 32767);
    levels = static_cast<int>(given == 0 ? (1 << (bits - 1)) - 1 : given);
  }

  // Never 0 for a bucket that has something: the norm is at least the largest magnitude, but for rounding.
  float norm(std::span<const float> x) const {
    const float largest = kernels::largest_abs(x);
    if (!euclidean) return largest;
    const double norm =
        std::min(std::sqrt(kernels::sum_sq(x)), static_cast<double>(std::numeric_limits<float>::max()));
    return std::max(static_cast<float>(norm), largest);
  }

  std::int64_t bucket;
  bool stochastic, euclidean;
  int levels = 0;
};

// Bits that hold -s .. s as 0 .. 2 s.
int bits_for(int s) {
  return std::bit_width(static_cast<unsigned>(2 * s));
}

class Qsgd final : public BucketedQuantiser {
 public:
  explicit Qsgd(const Settings& settings)
      : BucketedQuantiser({.method = "qsgd",
                           .numbers = 1,
                           .bucket = static_cast<std::size_t>(settings.bucket),
                           .stochastic = settings.stochastic},
                          bits_for(settings.levels)),
        settings_(settings) {}

  void set_bits(double bits) override {
    if (!(bits >= 2 && bits <= 8) || bits != std::floor(bits)) {
      throw ConfigError("qsgd: " + std::to_string(bits) + " bits were set; 2 to 8 are possible");
    }
    settings_.levels = (1 << (static_cast<int>(bits) - 1)) - 1;
    change_bits(bits_for(settings_.levels));
  }

  std::optional<device::LevelCode> level_code() const override {
    using Numbers = device::LevelCode::Numbers;
    return device::LevelCode{.levels = device::LevelCode::Levels::dither,
                             .numbers = settings_.euclidean ? Numbers::norm : Numbers::largest,
                             .bits = bits(),
                             .top = settings_.levels,
                             .bucket = settings_.bucket,
                             .stochastic = settings_.stochastic};
  }

 protected:
  Numbers measure(std::span<const float> bucket) const override { return {settings_.norm(bucket)}; }

  void to_levels(std::span<const float> x, const Numbers& numbers, kernels::Words words,
                 std::uint8_t* levels) const override {
    if (numbers[0] == 0) {
      std::fill_n(levels, x.size(), static_cast<std::uint8_t>(settings_.levels));
    } else {
      kernels::signed_levels(x, numbers[0], settings_.levels, words, levels);
    }
  }

  void to_values(const std::uint8_t* levels, const Numbers& numbers, std::span<float> out) const override {
    kernels::signed_values(levels, numbers[0], settings_.levels, out);
  }

  void check(const Numbers& numbers) const override { code::check_scale("qsgd", numbers[0]); }
  unsigned largest_level() const override { return 2 * static_cast<unsigned>(settings_.levels); }

 private:
  Settings settings_;
};

// More levels than fit into 8 bits: 16 bits a value, little-endian, level and sign in two's complement.
class WideQsgd final : public Quantiser {
 public:
  explicit WideQsgd(const Settings& settings) : settings_(settings) {}

  std::size_t bytes(std::int64_t n) const override {
    const auto count = static_cast<std::size_t>(n);
    return norms(count) * sizeof(float) + count * sizeof(std::int16_t);
  }

  void encode(std::span<const float> x, const Block& block, std::span<std::byte> code) override {
    const auto key = block.own(Purpose::round).key();
    const auto levels = code.subspan(norms(x.size()) * sizeof(float));
    std::vector<std::uint32_t> words;
    std::vector<std::int16_t> some;
    const std::size_t bucket = width(x.size());
    for (std::size_t from = 0, b = 0; from < x.size(); from += bucket, ++b) {
      const auto part = x.subspan(from, std::min(bucket, x.size() - from));
      const float norm = settings_.norm(part);
      code::write(code, b * sizeof(float), norm);
      some.assign(part.size(), 0);
      if (norm > 0) {
        if (settings_.stochastic) {
          words.resize(part.size());
          kernels::random_words(key, from, words);
        }
        kernels::signed_levels_wide(part, norm, settings_.levels, words, some.data());
      }
      std::ranges::copy(std::as_bytes(std::span(some)),
                        levels.begin() + static_cast<std::ptrdiff_t>(from * sizeof(std::int16_t)));
    }
  }

  void decode(std::span<const std::byte> code, std::span<float> out) const override {
    code::check_size("qsgd", code, bytes(static_cast<std::int64_t>(out.size())));
    const auto levels = code.subspan(norms(out.size()) * sizeof(float));
    const auto top = static_cast<float>(settings_.levels);
    const std::size_t bucket = width(out.size());
    for (std::size_t from = 0, b = 0; from < out.size(); from += bucket, ++b) {
      const float norm = code::read(code, b * sizeof(float));
      code::check_scale("qsgd", norm);
      for (std::size_t i = from; i < std::min(from + bucket, out.size()); ++i) {
        const auto low = std::to_integer<unsigned>(levels[2 * i]);
        const auto high = std::to_integer<unsigned>(levels[2 * i + 1]);
        const auto level = static_cast<std::int16_t>(low | high << 8U);
        if (std::abs(level) > settings_.levels) {
          code::refuse_level("qsgd", static_cast<unsigned>(std::abs(level)),
                             static_cast<unsigned>(settings_.levels));
        }
        out[i] = static_cast<float>(level) / top * norm;
      }
    }
  }

 private:
  std::size_t width(std::size_t n) const {
    return settings_.bucket == 0 ? std::max<std::size_t>(n, 1) : static_cast<std::size_t>(settings_.bucket);
  }
  std::size_t norms(std::size_t n) const { return (n + width(n) - 1) / width(n); }

  Settings settings_;
};

const bool registered = register_quantiser({
    .name = "qsgd",
    .summary = "random dithering: levels between 0 and the norm of each bucket, unbiased",
    .source = "Alistarh et al., QSGD, NeurIPS 2017, section 3.1",
    .keys = {{"bits", "8", "bits a value, 2 to 8: 2^(bits-1) - 1 levels of either sign"},
             {"levels", "0",
              "levels of either sign, 1 to 32767, instead of bits; more than 127 take 16 bits"},
             {"bucket", "128", "values with a norm of their own; 0 = the whole tensor"},
             {"norm", "2", "2: the Euclidean one; max: the largest magnitude (less noise, not sparse)"},
             {"rounding", "stochastic", "stochastic (unbiased) or nearest"}},
    .knob = Knob::bits,
    .knob_rival = "levels",
    .make = [](const Values& values, std::span<const std::int64_t>) -> std::unique_ptr<Quantiser> {
      const Settings settings(values);
      if (settings.levels > most_packed) return std::make_unique<WideQsgd>(settings);
      return std::make_unique<Qsgd>(settings);
    },
});

}  // namespace
}  // namespace acp
