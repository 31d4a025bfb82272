// `cgx`: levels between the smallest and the largest value of each bucket.
#include <algorithm>
#include <limits>

#include "comm/error.h"
#include "compressors/bucketed.h"
#include "compressors/code.h"
#include "compressors/coded_method.h"
#include "compressors/kernels/moments.h"

namespace acp {
namespace {

class Cgx final : public BucketedQuantiser {
 public:
  explicit Cgx(const Values& values)
      : BucketedQuantiser(
            {.method = "cgx",
             .numbers = 2,
             .bucket = static_cast<std::size_t>(values.integer("bucket", 1, std::int64_t{1} << 32)),
             .align = 8,
             .stochastic = values.choice("rounding", std::vector<std::string>{"nearest", "stochastic"}) ==
                           "stochastic"},
            static_cast<int>(values.integer("bits", 1, 8))),
        bucket_(values.integer("bucket", 1, std::int64_t{1} << 32)),
        stochastic_(values.text("rounding") == "stochastic"),
        least_unit_(static_cast<float>(values.number("least_unit", 0, 1))) {}

  void set_bits(double bits) override {
    if (!(bits >= 1 && bits <= 8) || bits != static_cast<int>(bits)) {
      throw ConfigError("cgx: " + std::to_string(bits) + " bits were set; 1 to 8 are possible");
    }
    change_bits(static_cast<int>(bits));
  }

  std::optional<device::LevelCode> level_code() const override {
    return device::LevelCode{.levels = device::LevelCode::Levels::range,
                             .numbers = device::LevelCode::Numbers::range,
                             .bits = bits(),
                             .top = static_cast<int>(largest_level()),
                             .bucket = bucket_,
                             .align = 8,
                             .stochastic = stochastic_,
                             .least_unit = least_unit_};
  }

 protected:
  // Unit, then minimum. A spread that float32 cannot hold is cut, so that all decoded values are finite.
  Numbers measure(std::span<const float> bucket) const override {
    const auto range = kernels::range(bucket);
    const float spread = std::min(range.max - range.min, std::numeric_limits<float>::max() / 2);
    return {spread / static_cast<float>(largest_level()), range.min};
  }

  void to_levels(std::span<const float> x, const Numbers& numbers, kernels::Words words,
                 std::uint8_t* levels) const override {
    if (numbers[0] == 0 || numbers[0] < least_unit_) {
      std::fill_n(levels, x.size(), std::uint8_t{0});
    } else {
      kernels::range_levels(x, numbers[1], numbers[0], static_cast<int>(largest_level()), words, levels);
    }
  }

  void to_values(const std::uint8_t* levels, const Numbers& numbers, std::span<float> out) const override {
    kernels::range_values(levels, numbers[1], numbers[0], out);
  }

  void check(const Numbers& numbers) const override {
    code::check_scale("cgx", numbers[0]);
    code::check_finite("cgx", numbers[1]);
  }
  unsigned largest_level() const override { return (1U << static_cast<unsigned>(bits())) - 1; }

 private:
  std::int64_t bucket_;
  bool stochastic_;
  float least_unit_;
};

// Biases and the like, and what is too small to gain by it.
bool whole(std::span<const std::int64_t> shape, const Values& values) {
  constexpr std::int64_t any = std::int64_t{1} << 40;
  const auto n = numel(shape);
  const bool vectors = values.choice("vectors", std::vector<std::string>{"whole", "coded"}) == "whole";
  return n < values.integer("min_size", 0, any) || (shape.size() <= 1 && vectors);
}

const bool registered = register_quantiser({
    .name = "cgx",
    .summary = "levels between smallest and largest value of each bucket, by compressed reduce-scatter",
    .source = "Markov et al., CGX, Middleware 2022, section 3",
    .keys = {{"bits", "4",
              "bits a value, 1 to 8 (the published library's default, 32, sends everything whole)"},
             {"bucket", "512", "values with a minimum and a unit of their own, 1 or more"},
             {"rounding", "nearest", "nearest, or stochastic (unbiased)"},
             {"min_size", "1024", "tensors of fewer elements are averaged whole"},
             {"vectors", "whole",
              "whole: one-dimensional tensors (biases, norms) are averaged as they are; or coded"},
             {"least_unit", "1e-10", "buckets with a smaller step become their minimum, 0 to 1"}},
    .knob = Knob::bits,
    .exchanges = {"scatter", "gather"},
    .make = [](const Values& values, std::span<const std::int64_t>) { return std::make_unique<Cgx>(values); },
    .plain = whole,
});

}  // namespace
}  // namespace acp
