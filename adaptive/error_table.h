// What each candidate setting would leave out of a tensor: absolute Frobenius norms |A - decompress(A)|.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compressors/codec.h"

namespace acp {

enum class RankErrors : std::uint8_t {
  automatic,  // svd up to 256 rows or columns, power beyond
  svd,        // exact, from the eigenvalues of the smaller Gram matrix, in double
  power       // subspace iteration, five rounds: never below the exact values, by a few percent at most above
};

// Of the best approximation of rank k of `matrix` (2-d), for each k of `ranks` (ascending, from 1). Beyond
// min(n, m) it is 0. `seed` and `name` key the random start of the iteration.
std::vector<double> rank_errors(const at::Tensor& matrix, std::span<const std::int64_t> ranks,
                                RankErrors method, std::uint64_t seed, const std::string& name);

// Of the k largest elements, for each count k (in any order): one sort for all of them.
std::vector<double> top_k_errors(std::span<const float> values, std::span<const std::int64_t> counts);

// The part of a specification that has bits, for a block of this shape. ConfigError if there is none.
std::unique_ptr<Quantiser> quantiser_of(const std::string& spec, std::span<const std::int64_t> shape);

// Of that quantiser (of all elements, also in a hybrid whose first part chooses among them) with each number
// of bits: one draw, keyed by `seed` and `name`.
std::vector<double> bits_errors(const at::Tensor& tensor, const std::string& spec,
                                std::span<const std::int64_t> bits, std::uint64_t seed,
                                const std::string& name);

double frobenius_norm(const at::Tensor& tensor);  // in double

}  // namespace acp
