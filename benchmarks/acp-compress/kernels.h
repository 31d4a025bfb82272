// Parts of methods against libtorch's own operations: exact selection, skinny products, and bases of all
// factors of two networks. libtorch is measured with factors as its programs hold them, n x r and
// contiguous, and with whichever layout of its operands is fastest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "benchmarks/acp-compress/measure.h"

namespace acp::programs {

struct KernelRow {
  std::string name;
  double bytes = 0;                              // read and written at least; 0 where the count says nothing
  double ours = 0, torchs = 0, torchs_best = 0;  // seconds
  // Products: of the largest number; bases: largest distance of A A^T from the identity; codes: of the norm
  // of 512 numbers (stochastic levels: below one level, 1 / 7 and 1 / 127), of signs the part that is wrong.
  double error = 0;
};

// The largest magnitudes, exact, indices and values, against topk of abs.
KernelRow measure_selection(const at::Tensor& gradient, double ratio, const Repeat& repeat);

// On a GPU, of float32 numbers in the place of this gradient's: fused copies of ResNet-50's gradients into
// one buffer and back against cat and copy_, and codes of 1, 4 and 8 bits with their numbers against
// libtorch's formulation without packing. None in builds without nvcc.
std::vector<KernelRow> measure_device_kernels(const at::Tensor& gradient, const Repeat& repeat);

// On a GPU: ACP-SGD's encoding and decoding of BERT-base's matrices at rank r, one bucket, against libtorch's
// formulation matrix by matrix, both with error feedback.
KernelRow measure_bert(std::int64_t r, std::uint64_t seed, const Repeat& repeat);

// The matrix (of a gradient) by r vectors, and its transpose.
std::vector<KernelRow> measure_products(const at::Tensor& gradient, std::int64_t r, const Repeat& repeat);

// P and Q of every matrix of ResNet-50 or BERT-base at rank r: in one batch, and one linalg_qr after the
// other. Of the r vectors so many are independent: fewer than r take the slower of our two methods.
KernelRow measure_bases(const std::string& network, std::int64_t r, std::int64_t independent,
                        std::uint64_t seed, const Repeat& repeat);

}  // namespace acp::programs
