// The three matrix products of low-rank compression.
//
// A matrix M is n x m. Its factors hold their vectors one after the other: P is r x n and Q is r x m here,
// where the literature writes n x r and m x r. So a basis vector is contiguous, and the first r vectors of a
// factor are its first r * n numbers whatever its rank. All tensors are contiguous, float32 or float64, on
// one device.
#pragma once

#include <ATen/core/Tensor.h>

#include "compressors/kernels/skinny.h"

namespace acp {

using kernels::Write;

// p = M Q: n r m multiplications; for this rank's own use, so the order of its sums may be ATen's. With
// `added`, a matrix like M, M += added comes first, in the same pass over memory where that is possible.
void project_left(const at::Tensor& matrix, const at::Tensor& q, const at::Tensor& p,
                  const at::Tensor& added = {});

// q = M^T P, likewise.
void project_right(const at::Tensor& matrix, const at::Tensor& p, const at::Tensor& q,
                   const at::Tensor& added = {});

// out = P Q^T, or out += P Q^T, or out -= P Q^T. All ranks compute the same average gradient by this: every
// number is a sum over the r vectors in order, 8 at a time, for any number of threads and on any processor.
void product(const at::Tensor& p, const at::Tensor& q, const at::Tensor& out, Write write);

}  // namespace acp
