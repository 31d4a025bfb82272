// The three matrix products of low-rank compression.
//
// A matrix M is n x m. Its factors hold their vectors one after the other: P is r x n and Q is r x m here,
// where the literature writes n x r and m x r. So a basis vector is contiguous, and the first r vectors of a
// factor are its first r * n numbers whatever its rank. All tensors are contiguous, float32 or float64, on
// one device.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "compressors/kernels/skinny.h"

namespace acp {

using kernels::Write;

// What becomes of a matrix M before it is projected, in the same pass over memory where that is possible:
// M -= P Q^T, then M += added.
struct Before {
  at::Tensor p, q;   // both undefined: nothing
  at::Tensor added;  // like M; undefined: nothing
};

// p = M Q: n r m multiplications; for this rank's own use, so the order of its sums may be ATen's.
void project_left(const at::Tensor& matrix, const at::Tensor& q, const at::Tensor& p,
                  const Before& before = {});

// q = M^T P, likewise.
void project_right(const at::Tensor& matrix, const at::Tensor& p, const at::Tensor& q,
                   const Before& before = {});

// Whether a projection on r vectors looks at every number of the matrix: then the result is not finite if
// some number is not. (A library's product may leave out what is multiplied by zero.)
bool projection_sees_all(const at::Tensor& matrix, std::int64_t r);

// out = P Q^T, or out += P Q^T, or out -= P Q^T. All ranks compute the same average gradient by this: every
// number is a sum over the r vectors in order, 8 at a time, for any number of threads and on any processor.
void product(const at::Tensor& p, const at::Tensor& q, const at::Tensor& out, Write write);

// The same for many matrices of one type and device: one after the other on the CPU, one or a few launches on
// a GPU, where `before` is a launch of its own.
struct Factored {
  at::Tensor matrix, p, q;
  Before before;  // of projections
};
void project_left(std::span<const Factored> batch);
void project_right(std::span<const Factored> batch);
void product(std::span<const Factored> batch, Write write);

}  // namespace acp
