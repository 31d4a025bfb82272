// Rows of L-GreCo's error table.
#include "adaptive/error_table.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "comm/error.h"
#include "compressors/coded_method.h"
#include "compressors/names.h"
#include "compressors/orthogonalize.h"
#include "compressors/philox.h"

namespace acp {
namespace {

constexpr std::int64_t largest_gram = 256;
constexpr int rounds = 5;

std::vector<double> to_vector(const at::Tensor& x) {
  const auto flat = x.to(at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

// Squares of the singular values, descending.
std::vector<double> squares_exact(const at::Tensor& matrix) {
  const auto a = matrix.to(at::kDouble);
  const auto gram = a.size(0) <= a.size(1) ? at::mm(a, a.t()) : at::mm(a.t(), a);
  auto squares = to_vector(at::linalg_eigvalsh(gram));  // ascending
  std::ranges::reverse(squares);
  for (auto& square : squares) square = std::max(square, 0.0);
  return squares;
}

// Of the largest `count` as far as a subspace of that size finds them.
std::vector<double> squares_found(const at::Tensor& matrix, std::int64_t count, std::uint64_t seed,
                                  const std::string& name) {
  const auto a = matrix.to(at::kFloat).contiguous();
  auto q = at::empty({count, a.size(1)}, at::kFloat);
  Philox(seed, name, 0, Purpose::start_q)
      .fill_normal(std::span(q.data_ptr<float>(), static_cast<std::size_t>(q.numel())));
  auto p = at::empty({count, a.size(0)}, at::kFloat);
  auto basis_q = at::empty_like(q), basis_p = at::empty_like(p);
  for (int round = 0; round < rounds; ++round) {
    orthogonalize(q, basis_q);
    p.copy_(at::mm(basis_q, a.t()));
    orthogonalize(p, basis_p);
    q.copy_(at::mm(basis_p, a));
  }
  // With P orthonormal, |A - P P^T A|^2 = |A|^2 - |P^T A|^2, and the same for the leading part.
  const auto small = q.to(at::kDouble);
  auto squares = to_vector(at::linalg_eigvalsh(at::mm(small, small.t())));
  std::ranges::reverse(squares);
  for (auto& square : squares) square = std::max(square, 0.0);
  return squares;
}

}  // namespace

double frobenius_norm(const at::Tensor& tensor) {
  return tensor.numel() == 0 ? 0 : tensor.norm(2, at::kDouble).item<double>();
}

std::vector<double> rank_errors(const at::Tensor& matrix, std::span<const std::int64_t> ranks,
                                RankErrors method, std::uint64_t seed, const std::string& name) {
  const std::int64_t full = std::min(matrix.size(0), matrix.size(1));
  const std::int64_t most = ranks.empty() ? 0 : std::min(ranks.back(), full);
  const double norm = frobenius_norm(matrix);
  if (!std::isfinite(norm)) return std::vector<double>(ranks.size(), std::nan(""));
  const bool exact =
      method == RankErrors::svd || (method == RankErrors::automatic && full <= largest_gram) || most == full;
  const auto squares = exact ? squares_exact(matrix) : squares_found(matrix, most, seed, name);
  // Sums from the small end where the tail is known, so that nothing cancels.
  std::vector<double> tail(static_cast<std::size_t>(full) + 1, 0.0);
  if (exact) {
    for (std::size_t k = squares.size(); k-- > 0;) tail[k] = tail[k + 1] + squares[k];
  } else {
    double rest = norm * norm;
    for (std::size_t k = 0; k <= static_cast<std::size_t>(most); ++k) {
      tail[k] = std::max(rest, 0.0);
      if (k < squares.size()) rest -= squares[k];
    }
  }
  std::vector<double> errors;
  for (const auto rank : ranks) {
    errors.push_back(rank >= full ? 0.0 : std::sqrt(tail[static_cast<std::size_t>(rank)]));
  }
  return errors;
}

std::vector<double> top_k_errors(std::span<const float> values, std::span<const std::int64_t> counts) {
  std::vector<double> squares(values.size());
  std::ranges::transform(values, squares.begin(),
                         [](float x) { return static_cast<double>(x) * static_cast<double>(x); });
  std::ranges::sort(squares);  // ascending: the sums from the small end are the errors
  std::vector<double> sums(values.size() + 1, 0.0);
  std::partial_sum(squares.begin(), squares.end(), sums.begin() + 1);
  std::vector<double> errors;
  for (const auto k : counts) {
    const auto left = std::max<std::int64_t>(static_cast<std::int64_t>(values.size()) - k, 0);
    errors.push_back(std::sqrt(sums[static_cast<std::size_t>(left)]));
  }
  return errors;
}

std::unique_ptr<Quantiser> quantiser_of(const std::string& spec, std::span<const std::int64_t> shape) {
  const auto parts = parse_spec(spec);
  const auto part = std::ranges::find(parts, Knob::bits,
                                      [](const MethodSpec& each) { return find_method(each.name).knob; });
  if (part == parts.end()) throw ConfigError("compressor " + in_quotes(spec) + " has no bits");
  return make_quantiser(*part, shape);
}

std::vector<double> bits_errors(const at::Tensor& tensor, const std::string& spec,
                                std::span<const std::int64_t> bits, std::uint64_t seed,
                                const std::string& name) {
  const auto values = tensor.to(at::kFloat).contiguous().view(-1);
  const std::span<const float> x(values.const_data_ptr<float>(), static_cast<std::size_t>(values.numel()));
  const double norm = frobenius_norm(values);
  if (!std::isfinite(norm)) return std::vector<double>(bits.size(), std::nan(""));
  const StepContext step{0, 1, 0, seed};
  const Block block{name, {values.numel()}, &step};
  const std::vector<std::int64_t> shape{values.numel()};
  const auto quantiser = quantiser_of(spec, shape);
  std::vector<std::byte> code;
  std::vector<float> decoded(x.size());
  std::vector<double> errors;
  for (const auto count : bits) {
    quantiser->set_bits(static_cast<double>(count));
    code.assign(quantiser->bytes(values.numel()), std::byte{0});
    quantiser->encode(x, block, code);
    quantiser->decode(code, decoded);
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double off = static_cast<double>(x[i]) - static_cast<double>(decoded[i]);
      sum += off * off;
    }
    errors.push_back(std::sqrt(sum));
  }
  return errors;
}

}  // namespace acp
