// Whether gradients are finite and there, as low-rank compressors learn it.
#include <ATen/ATen.h>

#include <cmath>

#include "comm/error.h"
#include "compressors/cuda/dispatch.h"
#include "compressors/finite.h"
#include "compressors/low_rank_compressor.h"

namespace acp {
namespace {

std::uint32_t* bits_of(const at::Tensor& largest) {
  return reinterpret_cast<std::uint32_t*>(largest.data_ptr<std::int32_t>());
}

}  // namespace

void LowRankCompressor::note(const at::Tensor& x) const {
  const device::Sum sum{x.data_ptr<float>(), nullptr, x.numel(), bits_of(largest_)};
  kernels_->accumulate({&sum, 1}, 1, device::place_of(x));
}

void LowRankCompressor::check_all(const Bucket& bucket, int rank) const {
  if (kernels_ == nullptr) return check_finite(bucket, rank);
  note(bucket.grads);  // slices without a gradient hold zeros
}

void LowRankCompressor::check_input(const Bucket& bucket, int rank) const {
  if (kernels_ != nullptr) return note(bucket.grads);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    const bool seen = parts_[k].rank > 0 && projection_sees_all(bucket.matrix(slices_[k]), parts_[k].rank);
    if (!seen) check_finite(bucket, k, rank);
  }
}

void LowRankCompressor::check_local(const Bucket& bucket, Side moving, int rank) const {
  const auto& local = factor(moving).local;
  if (kernels_ != nullptr) return note(local);
  if (all_finite(local)) return;
  check_finite(bucket, rank);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (parts_[k].rank > 0 && !all_finite(part(moving, local, k)))
      throw DataError(overflows(rank, slices_[k].name));
  }
}

void LowRankCompressor::announce(const Bucket& bucket, const at::Tensor& count) const {
  put_missing(bucket, count);
  if (kernels_ != nullptr)
    kernels_->spoil(count.data_ptr<float>(), bits_of(largest_), device::place_of(count));
}

bool LowRankCompressor::missing(const Bucket& bucket, const at::Tensor& count, int rank) const {
  if (kernels_ == nullptr) return some_missing(count);
  const double ranks = count.item<double>();
  if (std::isnan(ranks)) refuse(bucket, rank);
  return ranks != 0;
}

void LowRankCompressor::refuse(const Bucket& bucket, int rank) const {
  check_finite(bucket, rank);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (residual_ && !all_finite(residual_->view(slices_[k])))
      throw DataError(overflows(rank, slices_[k].name));
    for (const auto side : {Side::p, Side::q}) {
      if (parts_[k].rank > 0 && !all_finite(part(side, factor(side).local, k)))
        throw DataError(overflows(rank, slices_[k].name));
    }
  }
  throw DataError("rank " + std::to_string(rank) +
                  ": the gradients of another rank have NaN or infinite values" + advice_not_finite);
}

}  // namespace acp
