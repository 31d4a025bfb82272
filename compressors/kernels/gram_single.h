// gram() and combine() in float32, twice as fast, for rows that are nearly orthogonal already: what rounding
// leaves is multiplied by the square of their condition.
#pragma once

#include <vector>

#include "compressors/kernels/gram.h"

namespace acp::kernels {

// Columns that are summed in float32 before double takes over, for so many rows: a multiple of 8.
std::size_t single_width(std::size_t count);

// Room that calls reuse.
struct SingleWorkspace {
  std::vector<float> block;
  std::vector<double> sums;
};

// products[k * count + l] = row k times row l for l <= k; the others are undefined. Of single_width() columns
// at a time, those with the same j % 8 are summed in float32; these sums are added up in double, each by
// itself, and in the end in order. Off by less than 1e-7 of the rows' lengths if their squares are far from
// float32's limits.
void gram_single(const float* rows, Rows size, double* products, SingleWorkspace& workspace);
void gram_single_plain(const float* rows, Rows size, double* products);

// Row k of `out` = sum of factors[k * count + l], rounded, times row l for l = 0 .. k, in this order. All
// numbers are finite. `out` is not where the rows are.
void combine_single(const float* rows, Rows size, const double* factors, float* out,
                    SingleWorkspace& workspace);
void combine_single_plain(const float* rows, Rows size, const double* factors, float* out);

}  // namespace acp::kernels
