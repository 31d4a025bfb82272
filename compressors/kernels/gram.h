// The two passes of orthogonalisation by Cholesky's method: all dot products of a few rows, and new rows that
// are sums of them. Both compute in double.
#pragma once

#include <cstddef>
#include <vector>

namespace acp::kernels {

// Rows of floats, one after the other.
struct Rows {
  std::size_t count = 0, length = 0;
};

// Room that calls reuse.
using Workspace = std::vector<double>;

// products[k * count + l] = row k times row l for l <= k; the others are undefined. A product is summed as
// four, of the places with the same j % 4, which are then added in order.
void gram(const float* rows, Rows size, double* products, Workspace& workspace);
void gram_plain(const float* rows, Rows size, double* products);

// Row k of `out` = sum of factors[k * count + l] times row l for l = 0 .. k, in this order, rounded once. All
// numbers are finite. `out` is not where the rows are.
void combine(const float* rows, Rows size, const double* factors, float* out, Workspace& workspace);
void combine_plain(const float* rows, Rows size, const double* factors, float* out);

}  // namespace acp::kernels
