// `threshold`: every element whose magnitude reaches a fixed value, or one that is computed from a budget.
#include <algorithm>
#include <bit>
#include <cmath>

#include "compressors/coded_method.h"
#include "compressors/kernels/select.h"
#include "compressors/ratio.h"

namespace acp {
namespace {

class Threshold final : public Sparsifier {
 public:
  explicit Threshold(const Values& values)
      : form_(values.choice(
            "form", std::vector<std::string>{"fixed", "capped", "signed", "half", "budget", "kthvalue"})),
        value_(values.number("value", 0, 3e38)),
        budget_(values.number("budget", 0, 1e15)) {
    if (form_ == "kthvalue") ratio_ = values.number("ratio", 1e-9, 1);
  }

  void select(std::span<const float> y, std::span<const float>, const Block&, Selection& chosen) override {
    kernels::collect(y, least(y), y.size(), chosen.indices);
    take_values(y, chosen);
  }

 private:
  // As a magnitude. Zeros are never sent, except by the forms that repeat others to the letter.
  std::uint32_t least(std::span<const float> y) const {
    if (form_ == "kthvalue") return smallest_kept(y);
    double limit = value_;
    if (form_ == "budget") limit = budget_ > 0 ? 1 / (2 * std::sqrt(budget_)) : 0;
    const auto largest = kernels::largest(y);
    if (form_ == "half") {
      // |2 y| >= max, as the sum of two floats is exact.
      const float half = std::bit_cast<float>(largest) / 2;
      return std::max(kernels::magnitude(half), 1U);
    }
    if (form_ == "signed") {
      // The smaller of the limit and the largest value, which may be negative: then all are sent.
      const float top = *std::ranges::max_element(y);
      const float smaller = std::min(static_cast<float>(limit), top);
      return smaller <= 0 ? 0 : kernels::magnitude(smaller);
    }
    if (form_ == "capped") limit = std::min(limit, static_cast<double>(std::bit_cast<float>(largest)));
    return std::max(kernels::magnitude(static_cast<float>(limit)), 1U);
  }

  // The value of that rank among the magnitudes in ascending order; all that reach it are sent.
  std::uint32_t smallest_kept(std::span<const float> y) const {
    const auto n = static_cast<double>(y.size());
    const auto rank = static_cast<std::int64_t>(std::ceil(n * (1 - ratio_)));
    std::vector<std::uint32_t> magnitudes(y.size());
    std::ranges::transform(y, magnitudes.begin(), kernels::magnitude);
    const auto nth = magnitudes.begin() + std::clamp<std::int64_t>(rank - 1, 0, std::ssize(y) - 1);
    std::ranges::nth_element(magnitudes, nth);
    return *nth;
  }

  std::string form_;
  double value_, budget_, ratio_ = 1;
};

const bool registered = register_sparsifier({
    .name = "threshold",
    .summary = "every element whose magnitude reaches a threshold",
    .source = "Dutta et al., AAAI 2020; Sahu et al., Rethinking gradient sparsification, NeurIPS 2021 "
              "(form=budget)",
    .keys = {{"form", "fixed",
              "fixed (value), capped (value, or the largest magnitude if that is smaller), budget (1 / (2 "
              "sqrt(budget))), half (of the largest magnitude), kthvalue (all that reach the magnitude of "
              "rank ceil(n (1 - ratio))), signed (as GRACE: the smaller of value and the largest value)"},
             {"value", "0.01", "threshold of the forms fixed, capped and signed, from 0"},
             {"budget", "1000", "elements of the whole model to keep per step (form=budget)"},
             {"ratio", "0.01", "fraction of the elements to keep (form=kthvalue)"}},
    .make = [](const Values& values) { return std::make_unique<Threshold>(values); },
    // How many reach a threshold depends on the gradients; as good as any guess is 1 %.
    .kept =
        [](std::span<const std::int64_t> shape, const Values& values) {
          const double share = values.text("form") == "kthvalue" ? values.number("ratio", 1e-9, 1) : 0.01;
          return std::ceil(static_cast<double>(numel(shape)) * share);
        },
});

}  // namespace
}  // namespace acp
