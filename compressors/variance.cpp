// `variance`: sends what is known well: an element is sent once its accumulated gradient stands out of its
// variance.
//
// Per element r += mean of the samples' gradients, v += sum of (gradient / samples)^2; if r^2 > alpha v, r is
// sent, else v decays by zeta. Second moments come from the program that trains
// (Compressor::set_second_moments); without them each step's gradient counts as one sample, whose second
// moment is its square. That estimates the variance between steps in place of the one between samples:
// smaller batches, or accumulation over several reductions, come nearer to the published rule.
#include "compressors/variance.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "comm/error.h"
#include "compressors/coded_method.h"
#include "compressors/kernels/select.h"

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
        samples_(static_cast<float>(values.integer("samples", 1, 1'000'000))),
        power_(values.choice("encoding", std::vector<std::string>{"power", "float32"}) == "power") {}

  void select(std::span<const float>, std::span<const float> gradient, const Block&,
              Selection& chosen) override {
    r_.resize(gradient.size());
    v_.resize(gradient.size());
    float largest = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      const float square = given_.empty() ? gradient[i] * gradient[i] : given_[i] / samples_;
      r_[i] += gradient[i];
      v_[i] += square;
      if (!(r_[i] * r_[i] > alpha_ * v_[i])) continue;
      chosen.indices.push_back(static_cast<std::uint32_t>(i));
      largest = std::max(largest, std::abs(r_[i]));
    }
    given_.clear();
    if (power_) {
      std::erase_if(chosen.indices, [&](auto i) { return !nearest_power(r_[i], largest); });
    }
    std::size_t next = 0;
    for (std::size_t i = 0; i < v_.size(); ++i) {
      if (next < chosen.indices.size() && chosen.indices[next] == i) {
        const float sent = power_ ? *nearest_power(r_[i], largest) : r_[i];
        chosen.values.push_back(sent);
        r_[i] -= sent;  // what rounding left out stays
        v_[i] = 0;
        ++next;
      } else {
        v_[i] *= zeta_;
      }
    }
  }

  bool powers_of_two() const override { return power_; }

  void set_second_moments(std::span<const float> squares) override {
    given_.assign(squares.begin(), squares.end());
  }

  void save(std::map<std::string, at::Tensor>& state) const override {
    if (r_.empty()) return;
    state["sum"] = at::tensor(r_);
    state["variance"] = at::tensor(v_);
  }
  void load(const std::map<std::string, at::Tensor>& state) override {
    const auto take = [&](const char* kind, std::vector<float>& to) {
      const auto found = state.find(kind);
      if (found == state.end()) return;
      const auto flat = found->second.to(at::kFloat).contiguous();
      to.assign(flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel());
    };
    take("sum", r_);
    take("variance", v_);
  }

 private:
  float alpha_, zeta_, samples_;
  bool power_;
  std::vector<float> r_, v_, given_;
};

const bool registered = register_sparsifier({
    .name = "variance",
    .summary = "elements whose accumulated gradient stands out of its variance; keeps the rest itself",
    .source = "Tsuzuku et al., Variance-based gradient compression, ICLR 2018 workshop, section 4",
    .keys = {{"alpha", "1.5", "squared gradient over variance from which an element is sent, from 0"},
             {"zeta", "0.999", "decay of the variance of what is not sent, 0 to 1"},
             {"samples", "1", "gradients per step behind second moments given by the program (batch size)"},
             {"encoding", "power",
              "values as signed powers of two in 4 bits, the rounding is kept; or float32"}},
    .memories = {"none"},
    .make = [](const Values& values) { return std::make_unique<Variance>(values); },
    .kept = [](std::span<const std::int64_t> shape,
               const Values&) { return std::ceil(static_cast<double>(numel(shape)) * 0.1); },
});

}  // namespace
}  // namespace acp
