// `adacomp`: what could outgrow the largest element of its bin with one more such gradient.
#include <algorithm>
#include <bit>
#include <cmath>

#include "compressors/coded_method.h"
#include "compressors/kernels/select.h"

namespace acp {
namespace {

class AdaComp final : public Sparsifier {
 public:
  explicit AdaComp(const Values& values)
      : bin_size_(values.text("bin_size") == "auto" ? -1
                                                    : values.integer("bin_size", 0, std::int64_t{1} << 40)),
        send_(values.choice("send", std::vector<std::string>{"value", "H", "ternary"})),
        c_(static_cast<float>(values.number("c", 0, 1e6))),
        clip_(values.number("clip", 0, 1e9)) {}

  void select(std::span<const float> y, std::span<const float> gradient, const Block& block,
              Selection& chosen) override {
    if (clip_ > 0) y = clipped(y);
    const auto size = bin_size(block, y.size());
    double sum_of_largest = 0;
    for (std::size_t from = 0; from < y.size(); from += size) {
      const auto bin = y.subspan(from, std::min(size, y.size() - from));
      const float largest = std::bit_cast<float>(kernels::largest(bin));
      sum_of_largest += static_cast<double>(largest);
      if (largest == 0) continue;
      for (std::size_t i = from; i < from + bin.size(); ++i) {
        const float step = c_ * gradient[i];
        const float h = y[i] + step;
        if (!(std::abs(h) >= largest)) continue;
        chosen.indices.push_back(static_cast<std::uint32_t>(i));
        chosen.values.push_back(send_ == "H" ? h : y[i]);
      }
    }
    if (send_ != "ternary") return;
    const auto bins = (y.size() + size - 1) / size;
    const auto scale = static_cast<float>(sum_of_largest / static_cast<double>(bins));
    for (auto& value : chosen.values) value = std::copysign(scale, value);
  }

 private:
  std::size_t bin_size(const Block& block, std::size_t n) const {
    if (bin_size_ == 0) return n;
    if (bin_size_ > 0) return static_cast<std::size_t>(bin_size_);
    return block.shape.size() == 4 ? 50 : 500;
  }

  // To +- clip population standard deviations.
  std::span<const float> clipped(std::span<const float> y) {
    double sum = 0, squares = 0;
    const auto n = static_cast<double>(y.size());
    for (const float value : y) sum += static_cast<double>(value);
    for (const float value : y)
      squares += (static_cast<double>(value) - sum / n) * (static_cast<double>(value) - sum / n);
    const auto limit = static_cast<float>(clip_ * std::sqrt(squares / n));
    scratch_.resize(y.size());
    std::ranges::transform(y, scratch_.begin(),
                           [&](float value) { return std::clamp(value, -limit, limit); });
    return scratch_;
  }

  std::int64_t bin_size_;
  std::string send_;
  float c_;
  double clip_;
  std::vector<float> scratch_;
};

const bool registered = register_sparsifier({
    .name = "adacomp",
    .summary = "per bin, every element that with one more such gradient would reach the bin's largest",
    .source = "Chen et al., AdaComp, AAAI 2018, algorithm 1",
    .keys = {{"bin_size", "auto",
              "elements of a bin: a whole number, 0 = the whole tensor, auto = 500, convolutions 50 "
              "(granularity layer)"},
             {"c", "1", "weight of the gradient that is added for the test, from 0"},
             {"send", "value",
              "value (gradient with memory), H (with the test's addition, as GradComp), ternary "
              "(sign times the mean of the bins' largest magnitudes, as the paper)"},
             {"clip", "0", "not 0: clip to this many standard deviations before the choice"}},
    .make = [](const Values& values) { return std::make_unique<AdaComp>(values); },
    // How many pass depends on the gradients: a few of each bin.
    .kept =
        [](std::span<const std::int64_t> shape, const Values& values) {
          const auto given = values.text("bin_size");
          const double size = given == "auto"
                                  ? (shape.size() == 4 ? 50 : 500)
                                  : static_cast<double>(values.integer("bin_size", 0, std::int64_t{1} << 40));
          return 3 * (size > 0 ? std::ceil(static_cast<double>(numel(shape)) / size) : 1.0);
        },
});

}  // namespace
}  // namespace acp
