// Orthonormal bases, the same bits on every rank for the same input bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

namespace acp {

// `basis` is to become an orthonormal basis of the rows of `vectors`: both count x length, contiguous,
// float32 or float64, count <= length; one column of a factor is one row here.
struct Orthogonalization {
  at::Tensor vectors, basis;
};

// Row k of the basis is what the rows before leave of vector k, as Gram-Schmidt has it. A vector of which
// less than 1e-6 (float64: 1e-13) is left, or that is zero or not finite, is replaced by the unit vector e_j
// whose coordinate j the rows before use least (lowest j wins): a zero matrix gives rows of the identity, and
// the result is finite for every input. In float32 rows are orthonormal to 1e-6.
void orthogonalize(const at::Tensor& vectors, const at::Tensor& basis);

// Several of one type and device: shared among threads, or one launch on a GPU (float32 of up to 64 rows;
// others, and all in builds without nvcc, are copied to the CPU and back). Each result is that of the
// function above; a GPU's differs from the CPU's in rounding.
void orthogonalize(std::span<const Orthogonalization> batch);

}  // namespace acp
