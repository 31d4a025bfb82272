// `variance`: sends what is known well: an element is sent once its accumulated gradient stands out of its
// variance.
//
// Per element r += mean of the samples' gradients, v += sum of (gradient of a sample / samples)^2; if r^2 >
// alpha v, r is sent, else v decays by zeta. The squares come from the program that trains, of per-sample
// gradients (GradientReducer::set_squares), or from the reducer, of the backward passes that add up to one
// step (backward_passes_per_step: the passes are the samples; this estimates the variance of a pass's mean).
// With one pass per step the step's gradient is the one sample, so the variance between steps stands for that
// between samples.
#include "compressors/variance.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "comm/error.h"
#include "compressors/coded_method.h"
#include "compressors/kernels/moments.h"

namespace acp {

std::optional<float> nearest_power(float x, float largest) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto top = std::bit_cast<std::uint32_t>(largest) >> 23U;
  auto exponent = (bits >> 23U) & 255U;
  if (exponent == 0) return std::nullopt;
  if ((bits & 0x400000U) != 0) ++exponent;  // 1.5 times the power or more
  exponent = std::min(exponent, top);
  if (top - exponent > 7) return std::nullopt;
  return std::bit_cast<float>((bits & 0x80000000U) | exponent << 23U);
}

namespace {

class Variance final : public Sparsifier {
 public:
  explicit Variance(const Values& values)
      : alpha_(static_cast<float>(values.number("alpha", 0, 1e9))),
        zeta_(static_cast<float>(values.number("zeta", 0, 1))),
        power_(values.choice("encoding", std::vector<std::string>{"power", "float32"}) == "power") {}

  void select(std::span<const float>, std::span<const float> gradient, const Block& block,
              Selection& chosen) override {
    r_.resize(gradient.size());
    v_.resize(gradient.size());
    refuse_overflow(gradient, block);
    float largest = 0;
    for_present(block, gradient.size(), [&](std::size_t i) {
      r_[i] += gradient[i];
      v_[i] += block.squares.empty() ? gradient[i] * gradient[i] : block.squares[i];
      if (!(r_[i] * r_[i] > alpha_ * v_[i])) return;
      chosen.indices.push_back(static_cast<std::uint32_t>(i));
      largest = std::max(largest, std::abs(r_[i]));
    });
    if (power_) {
      std::erase_if(chosen.indices, [&](auto i) { return !nearest_power(r_[i], largest); });
    }
    std::size_t next = 0;
    for_present(block, gradient.size(), [&](std::size_t i) {
      if (next < chosen.indices.size() && chosen.indices[next] == i) {
        chosen.values.push_back(power_ ? *nearest_power(r_[i], largest) : r_[i]);
        v_[i] = 0;
        ++next;
      } else {
        v_[i] *= zeta_;
      }
    });
  }

  // What rounding and coding left out stays.
  void sent(std::span<const std::uint32_t> indices, std::span<const float> values) override {
    for (std::size_t k = 0; k < indices.size(); ++k) r_[indices[k]] -= values[k];
  }

  bool powers_of_two() const override { return power_; }

  void save(std::map<std::string, at::Tensor>& state) const override {
    if (r_.empty()) return;
    state["sum"] = at::tensor(r_);
    state["variance"] = at::tensor(v_);
  }
  void load(const std::map<std::string, at::Tensor>& state, std::int64_t count) override {
    const auto take = [&](const char* kind, std::vector<float>& to) {
      const auto found = state.find(kind);
      if (found == state.end()) return;
      if (found->second.numel() != count) {
        throw ConfigError("variance: a saved " + std::string(kind) + " of " +
                          std::to_string(found->second.numel()) + " values for " + std::to_string(count));
      }
      const auto flat = found->second.to(at::kFloat).contiguous();
      to.assign(flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel());
    };
    take("sum", r_);
    take("variance", v_);
  }

 private:
  template <class Body>
  static void for_present(const Block& block, std::size_t n, const Body& body) {
    std::size_t i = 0;
    for (const auto& range : block.absent) {
      for (; i < range.begin; ++i) body(i);
      i += range.count;
    }
    for (; i < n; ++i) body(i);
  }

  // An infinite sum of squares would never decay, and the element never be sent again.
  void refuse_overflow(std::span<const float> gradient, const Block& block) const {
    const auto square = [](std::span<const float> x) {
      const double top = static_cast<double>(kernels::largest_abs(x));
      return top * top;
    };
    const double most = static_cast<double>(std::numeric_limits<float>::max()) / 4;
    const bool bad =
        square(gradient) > most || square(r_) > most ||
        std::ranges::any_of(block.squares, [&](float x) { return !(static_cast<double>(x) <= most); });
    if (!bad) return;
    throw DataError("rank " + std::to_string(block.step->rank) + ": the gradient of parameter \"" +
                    std::string(block.name) +
                    "\" is too large for variance, its square overflows float32; lower the "
                    "learning rate, or clip");
  }

  float alpha_, zeta_;
  bool power_;
  std::vector<float> r_, v_;
};

const bool registered = register_sparsifier({
    .name = "variance",
    .summary = "elements whose accumulated gradient stands out of its variance; keeps the rest itself",
    .source = "Tsuzuku et al., Variance-based gradient compression, ICLR 2018 workshop, section 4",
    .keys = {{"alpha", "1.5", "squared gradient over variance from which an element is sent, from 0"},
             {"zeta", "0.999", "decay of the variance of what is not sent, 0 to 1"},
             {"encoding", "power",
              "values as signed powers of two in 4 bits, the rounding is kept; or float32"}},
    .memories = {"none"},
    .wants_squares = true,
    .make = [](const Values& values) { return std::make_unique<Variance>(values); },
    .kept = [](std::span<const std::int64_t> shape,
               const Values&) { return std::ceil(static_cast<double>(numel(shape)) * 0.1); },
});

}  // namespace
}  // namespace acp
