// The passes over memory of low-rank compression: products of a matrix with a few vectors, in which the error
// memory takes part on the way, so that every number is read and written once.
//
// A matrix is m numbers a row; its factors hold their vectors one after the other: P is r x n and Q is r x m.
// Work is cut by rows or by columns so that threads can share it; no result depends on where it is cut. All
// forms of a kernel compute the same bits: products and sums are rounded one by one, in the order given.
#pragma once

#include <cstddef>
#include <cstdint>

namespace acp::kernels {

// Rows or columns from `begin` to before `end`.
struct Lines {
  std::size_t begin = 0, end = 0;
};

struct Skinny {
  std::size_t n = 0, m = 0, r = 0;
};

// p = M Q in some rows; with `added`, a matrix like M, M += added comes first. A row's sum is formed as
// eight, of the columns with the same j % 8, which are then added in order.
void times_q(float* matrix, const float* added, const float* q, float* p, Skinny size, Lines rows);
void times_q_plain(float* matrix, const float* added, const float* q, float* p, Skinny size, Lines rows);

// q = M^T P in some columns, likewise. Sums go down the rows: rows from 0 on begin them, later ones continue
// them, so blocks of rows follow each other in order.
void times_p(float* matrix, const float* added, const float* p, float* q, Skinny size, Lines rows,
             Lines columns);
void times_p_plain(float* matrix, const float* added, const float* p, float* q, Skinny size, Lines rows,
                   Lines columns);

// How a product enters what is there.
enum class Write : std::uint8_t { set, add, subtract };

constexpr std::size_t widest_outer = 8;

// out = P Q^T, or out += or -= P Q^T, in some rows and columns, r from 1 to widest_outer. A sum over the
// vectors is formed in order, before what is there takes part.
void outer(const float* p, const float* q, float* out, Skinny size, Write write, Lines rows, Lines columns);
void outer_plain(const float* p, const float* q, float* out, Skinny size, Write write, Lines rows,
                 Lines columns);
void outer_plain(const double* p, const double* q, double* out, Skinny size, Write write, Lines rows,
                 Lines columns);

}  // namespace acp::kernels
