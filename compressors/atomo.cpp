// `atomo`: a few atoms of the singular value decomposition, at random with weights that keep the mean.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compressors/code.h"
#include "compressors/coded_method.h"
#include "compressors/low_rank.h"

namespace acp {
namespace {

const std::vector<std::string> samplings{"budget", "reject", "top"}, views{"atomo", "rows"};

// As what matrix a tensor is decomposed. "atomo": convolutions as (out * in / 2) x (2 * kernel), which is
// nearer to square, where the count is even; "rows": first dimension by the rest.
std::pair<std::int64_t, std::int64_t> matrix_shape(std::span<const std::int64_t> shape,
                                                   const std::string& view) {
  const auto n = numel(shape);
  if (shape.empty() || n == 0) return {1, n};
  const std::int64_t pairs = shape.size() > 2 ? shape[0] * shape[1] : 1;
  if (view == "atomo" && shape.size() > 2 && pairs % 2 == 0) return {pairs / 2, n / (pairs / 2)};
  return {shape[0], n / shape[0]};
}

// Vectors and matrices of no more atoms than are sent.
bool whole(std::span<const std::int64_t> shape, const Values& values) {
  const auto [rows, columns] = matrix_shape(shape, values.choice("view", views));
  return std::min(rows, columns) <= values.integer("rank", 1, 4096);
}

// Which atoms to keep, and what their singular values are multiplied by.
struct Choice {
  std::vector<std::int64_t> atoms;
  std::vector<double> weights;
};

// Chances p that add up to r: proportional to s, but those that would exceed 1 are 1 (the paper's rule).
std::vector<double> budget(const std::vector<double>& s, std::int64_t r) {
  std::vector<double> p(s.size(), 0);
  double rest = std::accumulate(s.begin(), s.end(), 0.0), left = static_cast<double>(r);
  std::size_t i = 0;  // s descends, so what becomes 1 stands in front
  for (; i < s.size() && rest > 0 && left * s[i] >= rest; ++i) {
    p[i] = 1;
    rest -= s[i];
    left -= 1;
  }
  for (; i < s.size() && rest > 0 && left > 0; ++i) p[i] = std::min(1.0, left * s[i] / rest);
  return p;
}

// Systematic sampling: exactly r atoms, each with its chance, from one draw.
Choice choose_by_budget(const std::vector<double>& s, std::int64_t r, const Philox& random) {
  Choice choice;
  const auto p = budget(s, r);
  double next = random.uniform(0), sum = 0;
  for (std::size_t i = 0; i < s.size() && choice.atoms.size() < static_cast<std::size_t>(r); ++i) {
    sum += p[i];
    if (p[i] <= 0 || next >= sum) continue;
    choice.atoms.push_back(static_cast<std::int64_t>(i));
    choice.weights.push_back(1 / p[i]);
    next += 1;
  }
  return choice;
}

// The published code: independent draws with p = min(1, r s / sum), repeated until r are kept, at most 1000
// times; then the first r that are.
Choice choose_by_rejection(const std::vector<double>& s, std::int64_t r, const Philox& random) {
  const double sum = std::accumulate(s.begin(), s.end(), 0.0);
  Choice choice;
  std::uint64_t draw = 0;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    choice = {};
    for (std::size_t i = 0; i < s.size(); ++i) {
      const double p = std::min(1.0, static_cast<double>(r) * s[i] / sum);
      if (random.uniform(draw++) >= p) continue;
      choice.atoms.push_back(static_cast<std::int64_t>(i));
      choice.weights.push_back(1 / p);
    }
    if (choice.atoms.size() == static_cast<std::size_t>(r)) return choice;
  }
  const auto kept = std::min(choice.atoms.size(), static_cast<std::size_t>(r));
  choice.atoms.resize(kept);
  choice.weights.resize(kept);
  return choice;
}

// Code: for each atom its column, scaled, and its row; zeros for atoms that are missing.
class Atomo final : public Quantiser {
 public:
  Atomo(const Values& values, std::span<const std::int64_t> shape)
      : sampling_(values.choice("sampling", samplings)) {
    std::tie(rows_, columns_) = matrix_shape(shape, values.choice("view", views));
    rank_ = std::min({values.integer("rank", 1, 4096), rows_, columns_});
  }

  std::size_t bytes(std::int64_t n) const override {
    return n == 0 ? 0 : static_cast<std::size_t>(rank_ * (rows_ + columns_)) * sizeof(float);
  }

  void encode(std::span<const float> x, const Block& block, std::span<std::byte> code) override {
    std::ranges::fill(code, std::byte{0});
    if (x.empty()) return;
    const auto flat = at::from_blob(const_cast<float*>(x.data()), {rows_, columns_}, at::kFloat);
    const double largest = flat.abs().max().item<double>();
    if (largest == 0) return;
    // Scaled, so that neither subnormal nor huge numbers hurt the decomposition; in double for exact means.
    const auto [u, s, v] = at::linalg_svd(flat.to(at::kDouble) / largest, /*full_matrices=*/false);
    const std::vector<double> values(s.data_ptr<double>(), s.data_ptr<double>() + s.numel());
    const auto choice = choose(values, block.own(Purpose::select));
    const auto count = static_cast<std::int64_t>(choice.atoms.size());
    for (std::int64_t k = 0; k < count; ++k) {
      const auto atom = choice.atoms[static_cast<std::size_t>(k)];
      const double weight =
          values[static_cast<std::size_t>(atom)] * choice.weights[static_cast<std::size_t>(k)];
      put(code, k * (rows_ + columns_), u.select(1, atom) * (weight * largest));
      put(code, k * (rows_ + columns_) + rows_, v.select(0, atom));
    }
  }

  void decode(std::span<const std::byte> code, std::span<float> out) const override {
    code::check_size("atomo", code, bytes(static_cast<std::int64_t>(out.size())));
    if (out.empty()) return;
    const auto numbers = at::empty({rank_, rows_ + columns_}, at::kFloat);
    std::ranges::copy(code, static_cast<std::byte*>(numbers.data_ptr()));
    if (!at::isfinite(numbers).all().item<bool>()) code::check_finite("atomo", NAN);
    auto result = at::from_blob(out.data(), {rows_, columns_}, at::kFloat);
    const auto exact = numbers.to(at::kDouble), sums = at::empty({rows_, columns_}, at::kDouble);
    product(exact.narrow(1, 0, rows_).contiguous(), exact.narrow(1, rows_, columns_).contiguous(), sums,
            Write::set);
    result.copy_(sums);
  }

 private:
  Choice choose(const std::vector<double>& s, const Philox& random) const {
    if (sampling_ == "budget") return choose_by_budget(s, rank_, random);
    if (sampling_ == "reject") return choose_by_rejection(s, rank_, random);
    Choice choice;
    choice.atoms.resize(static_cast<std::size_t>(rank_));
    std::iota(choice.atoms.begin(), choice.atoms.end(), 0);
    choice.weights.assign(choice.atoms.size(), 1);
    return choice;
  }

  static void put(std::span<std::byte> code, std::int64_t place, const at::Tensor& numbers) {
    const auto floats = numbers.to(at::kFloat).contiguous();
    const std::span bytes(static_cast<const std::byte*>(floats.data_ptr()), floats.nbytes());
    std::ranges::copy(bytes, code.begin() + static_cast<std::ptrdiff_t>(place * std::int64_t{sizeof(float)}));
  }

  std::string sampling_;
  std::int64_t rows_ = 1, columns_ = 0, rank_ = 1;
};

const bool registered = register_quantiser({
    .name = "atomo",
    .summary = "atoms of the singular value decomposition, chosen at random, unbiased",
    .source = "Wang et al., ATOMO, NeurIPS 2018, algorithm 1 and section 4",
    .keys =
        {{"rank", "3", "atoms that are sent of each matrix, 1 to 4096"},
         {"sampling", "budget",
          "budget: exactly rank atoms, unbiased; reject: as the published code (biased); top: the largest, "
          "truncated decomposition (biased; take --memory residual)"},
         {"view", "atomo",
          "matrix of a convolution: atomo = (out * in / 2) x (2 * kernel), rows = out x (in * kernel)"}},
    .exchanges = {"gather"},
    .hybrid = false,
    .make = [](const Values& values,
               std::span<const std::int64_t> shape) { return std::make_unique<Atomo>(values, shape); },
    .plain = whole,
});

}  // namespace
}  // namespace acp
