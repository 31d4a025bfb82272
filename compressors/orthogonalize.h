// Orthonormal bases, the same bits on every rank for the same input bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

namespace acp {

// `basis` is to become an orthonormal basis of the rows of `vectors`: both count x length, contiguous,
// float32 or float64 on the CPU, count <= length; one column of a factor is one row here.
struct Orthogonalization {
  at::Tensor vectors, basis;
};

// Row k of the basis is what the rows before leave of vector k, as Gram-Schmidt has it. A vector of which
// less than 1e-6 (float64: 1e-13) is left, or that is zero or not finite, is replaced by the unit vector e_j
// whose coordinate j the rows before use least (lowest j wins): a zero matrix gives rows of the identity, and
// the result is finite for every input. In float32 rows are orthonormal to 1e-6.
void orthogonalize(const at::Tensor& vectors, const at::Tensor& basis);

// Several of one type, shared among threads; each result is that of the function above.
void orthogonalize(std::span<const Orthogonalization> batch);

}  // namespace acp
