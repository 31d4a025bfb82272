// Buffers, steps and state of the low-rank exchanges.
#include "compressors/low_rank_compressor.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "compressors/cuda/dispatch.h"
#include "compressors/orthogonalize.h"
#include "compressors/philox.h"
#include "compressors/registry.h"

namespace acp {
namespace {

std::int64_t effective_rank(const Slice& slice, std::int64_t rank) {
  return slice.is_matrix() ? std::min({rank, slice.rows, slice.cols}) : 0;
}

at::Tensor matrix(const at::Tensor& flat, const Slice& slice) {
  return flat.narrow(0, slice.offset, slice.numel()).view({slice.rows, slice.cols});
}

double squared_norm(const at::Tensor& x) {
  const double norm = x.norm(2, at::kDouble).item<double>();
  return norm * norm;
}

// Many small copies: one launch where kernels of a GPU can do them.
class Copies {
 public:
  explicit Copies(const device::Kernels* kernels) : kernels_(kernels) {}

  void add(const at::Tensor& from, const at::Tensor& to) {
    if (kernels_ == nullptr) {
      to.copy_(from);
      return;
    }
    place_ = device::place_of(to);
    pieces_.push_back({from.const_data_ptr<float>(), to.data_ptr<float>(), to.numel()});
  }
  void perform() const {
    if (!pieces_.empty()) kernels_->copy(pieces_, device::Type::float32, device::Type::float32, 1, place_);
  }

 private:
  const device::Kernels* kernels_;
  device::Place place_;
  std::vector<device::Copy> pieces_;
};

// What the planner knows of a tensor, as a compressor will see it.
Slice slice_of(std::span<const std::int64_t> shape) {
  Slice slice;
  slice.shape.assign(shape.begin(), shape.end());
  slice.rows = shape.empty() ? 1 : shape[0];
  slice.cols = slice.rows > 0 ? numel(shape) / slice.rows : 0;
  return slice;
}

}  // namespace

double low_rank_bytes(std::span<const std::int64_t> shape, std::int64_t element_size,
                      const LowRankOptions& options,
                      const std::function<double(const Slice& slice, std::int64_t rank)>& numbers) {
  const auto slice = slice_of(shape);
  const auto rank = effective_rank(slice, options.rank);
  const bool compressed = low_rank_compresses(shape, options);
  const double count = compressed ? numbers(slice, rank) : static_cast<double>(slice.numel());
  return count *
         static_cast<double>(std::max<std::int64_t>(element_size, 4));  // computed in float32 at least
}

bool low_rank_compresses(std::span<const std::int64_t> shape, const LowRankOptions& options) {
  const auto slice = slice_of(shape);
  const auto rank = effective_rank(slice, options.rank);
  return rank > 0 && options.worthwhile(slice, rank);
}

LowRankCompressor::LowRankCompressor(const Bucket& bucket, LowRankOptions options)
    : options_(std::move(options)), slices_(bucket.slices), type_(bucket.grads.options()) {
  if (type_.dtype() != at::kDouble) type_ = type_.dtype(at::kFloat);
  const bool same_type = type_.dtype() == bucket.grads.dtype();
  if (options_.error_memory) {
    residual_.emplace(bucket, c10::typeMetaToScalarType(type_.dtype()));
  } else if (!same_type || options_.input_survives) {
    scratch_ = at::empty(bucket.grads.sizes(), type_);
  }
  if (!same_type) result_ = at::empty(bucket.grads.sizes(), type_);
  if (bucket.grads.scalar_type() == at::kFloat) kernels_ = device::kernels_for(bucket.grads);
  if (kernels_ != nullptr) largest_ = at::zeros({1}, type_.dtype(at::kInt));

  std::vector<std::int64_t> ranks;
  for (const auto& slice : slices_) {
    const auto rank = effective_rank(slice, options_.rank);
    ranks.push_back(rank > 0 && options_.worthwhile(slice, rank) ? rank : 0);
  }
  lay_out(ranks);
}

void LowRankCompressor::lay_out(const std::vector<std::int64_t>& ranks) {
  settle();
  const auto before = std::exchange(parts_, {});
  const auto old_p = std::exchange(p_, {}), old_q = std::exchange(q_, {});
  Part end;
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    end.rank = ranks[k];
    parts_.push_back(end);
    end.p += ranks[k] * slices_[k].rows;
    end.q += ranks[k] * slices_[k].cols;
    end.plain += ranks[k] == 0 ? slices_[k].numel() : 0;
  }
  buffer_ = at::zeros({std::max(end.p, end.q) + end.plain + 1}, type_);
  allocate(p_, end.p, end.plain);
  allocate(q_, end.q, end.plain);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    const auto kept = before.empty() ? 0 : std::min(before[k].rank, ranks[k]);
    for (const auto side : {Side::p, Side::q}) {
      if (kept > 0) {  // vectors lie one after the other, so the leading ones are one range
        const auto& old = side == Side::p ? old_p.value : old_q.value;
        const auto begin = side == Side::p ? before[k].p : before[k].q;
        const auto count = kept * length(side, k);
        part(side, factor(side).value, k).view(-1).narrow(0, 0, count).copy_(old.narrow(0, begin, count));
      }
      if (kept < ranks[k]) draw(factor(side).value, side, 0, k, kept);
    }
  }
  prepared.reset();
}

void LowRankCompressor::allocate(Factor& factor, std::int64_t factors, std::int64_t plain) {
  factor.value = at::zeros({factors}, type_);
  factor.basis = at::zeros({factors}, type_);
  factor.local = at::zeros({factors}, type_);
  factor.message = buffer_.narrow(0, 0, factors + plain + 1);
  factor.factors = factor.message.narrow(0, 0, factors);
  factor.count = factor.message.narrow(0, factors + plain, 1);
}

std::int64_t LowRankCompressor::length(Side side, std::size_t k) const {
  return side == Side::p ? slices_[k].rows : slices_[k].cols;
}

at::Tensor LowRankCompressor::part(Side side, const at::Tensor& flat, std::size_t k) const {
  const auto rank = parts_[k].rank, n = length(side, k);
  return flat.narrow(0, side == Side::p ? parts_[k].p : parts_[k].q, rank * n).view({rank, n});
}

at::Tensor LowRankCompressor::plain_part(Side side, std::size_t k) const {
  const auto begin = factor(side).factors.numel() + parts_[k].plain;
  return factor(side).message.narrow(0, begin, slices_[k].numel());
}

at::Tensor LowRankCompressor::input(const Bucket& bucket) const {
  if (residual_) return residual_->flat();
  return scratch_.defined() ? scratch_ : bucket.grads;
}

at::Tensor LowRankCompressor::output(const Bucket& bucket) const {
  return result_.defined() ? result_ : bucket.grads;
}

void LowRankCompressor::draw(const at::Tensor& flat, Side side, std::uint64_t step, std::size_t k,
                             std::int64_t first) const {
  const auto n = length(side, k), count = (parts_[k].rank - first) * n;
  const Philox random(options_.seed, slices_[k].name, step,
                      side == Side::p ? Purpose::start_p : Purpose::start_q);
  const auto numbers = at::empty({count}, at::kDouble);
  random.fill_normal(std::span(numbers.data_ptr<double>(), static_cast<std::size_t>(count)),
                     static_cast<std::uint64_t>(first * n));
  part(side, flat, k).view(-1).narrow(0, first * n, count).copy_(numbers);
}

void LowRankCompressor::orthogonalize(Side side) {
  if (side != owed_side_) settle();  // its basis is part of what is owed
  const auto& all = factor(side);
  std::vector<Orthogonalization> batch;
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (parts_[k].rank > 0) batch.push_back({part(side, all.value, k), part(side, all.basis, k)});
  }
  acp::orthogonalize(batch);
}

void LowRankCompressor::draw_basis(Side side, std::uint64_t step) {
  settle();
  const auto& all = factor(side);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (parts_[k].rank == 0) continue;
    draw(all.local, side, step, k, 0);
    acp::orthogonalize(part(side, all.local, k), part(side, all.basis, k));
  }
}

void LowRankCompressor::take_input(const Bucket& bucket) {
  if (residual_) {
    fresh_ = bucket.grads.scalar_type() == residual_->flat().scalar_type();
    if (!fresh_) {
      settle();
      residual_->compensate(bucket);
      return;
    }
    for (std::size_t k = 0; k < slices_.size(); ++k) {
      if (parts_[k].rank > 0) continue;
      const auto& slice = slices_[k];
      residual_->view(slice).add_(bucket.grads.narrow(0, slice.offset, slice.numel()));
    }
  } else if (scratch_.defined()) {
    scratch_.copy_(bucket.grads);
  }
  if (!options_.measure_error) return;
  settle();
  norms_ = {};
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    auto m = matrix(input(bucket), slices_[k]);
    if (fresh_ && parts_[k].rank > 0) m = m + matrix(bucket.grads, slices_[k]);
    const double squares = squared_norm(m);
    norms_.input += squares;
    if (parts_[k].rank > 0) norms_.lost += squares;
  }
}

void LowRankCompressor::count_lost(Side moving) {
  if (options_.measure_error) norms_.lost = std::max(0.0, norms_.lost - squared_norm(factor(moving).local));
}

void LowRankCompressor::project(const Bucket& bucket, Side moving) {
  const auto from = input(bucket);
  if (moving == owed_side_) settle();  // its local factor is about to be another
  std::vector<Factored> batch;
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (parts_[k].rank == 0) continue;
    auto& one = batch.emplace_back(factored(k, from, moving, factor(moving).local));
    if (!owed_.empty() && owed_[k]) {
      const auto owed = factored(k, from, owed_side_, factor(owed_side_).local);
      one.before = {owed.p, owed.q, {}};
    }
    if (fresh_) one.before.added = matrix(bucket.grads, slices_[k]);
  }
  moving == Side::p ? project_left(batch) : project_right(batch);
  fresh_ = false;
  owed_.clear();
  factor(moving).factors.copy_(factor(moving).local);
}

void LowRankCompressor::pack(const Bucket& bucket, Side moving) {
  const auto from = input(bucket);
  Copies copies(kernels_);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (parts_[k].rank == 0)
      copies.add(from.narrow(0, slices_[k].offset, slices_[k].numel()), plain_part(moving, k));
  }
  copies.perform();
  announce(bucket, factor(moving).count);
}

void LowRankCompressor::unpack(Bucket& bucket, Side moving) {
  Copies copies(kernels_);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (parts_[k].rank > 0 || bucket.used[k] == 0) continue;
    copies.add(plain_part(moving, k), bucket.view(slices_[k]));
  }
  copies.perform();
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (parts_[k].rank > 0 || bucket.used[k] == 0) continue;
    if (residual_) residual_->view(slices_[k]).zero_();  // it was sent whole
  }
}

void LowRankCompressor::accept(const Bucket& bucket, Side moving) {
  const auto& all = factor(moving);
  if (std::ranges::find(bucket.used, 0) == bucket.used.end()) {
    all.value.copy_(all.factors);
    return;
  }
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (touches(bucket, k)) part(moving, all.value, k).copy_(part(moving, all.factors, k));
  }
}

Factored LowRankCompressor::factored(std::size_t k, const at::Tensor& flat, Side moving,
                                     const at::Tensor& from) const {
  return {matrix(flat, slices_[k]),
          part(Side::p, moving == Side::p ? from : p_.basis, k),
          part(Side::q, moving == Side::q ? from : q_.basis, k),
          {}};
}

std::vector<Factored> LowRankCompressor::in_use(const Bucket& bucket, const at::Tensor& flat, Side moving,
                                                const at::Tensor& from) const {
  std::vector<Factored> batch;
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (touches(bucket, k)) batch.push_back(factored(k, flat, moving, from));
  }
  return batch;
}

void LowRankCompressor::subtract_own(const Bucket& bucket, Side moving) {
  product(in_use(bucket, input(bucket), moving, factor(moving).local), Write::subtract);
}

void LowRankCompressor::owe_own(const Bucket& bucket, Side moving) {
  owed_side_ = moving;
  owed_.resize(slices_.size());
  for (std::size_t k = 0; k < slices_.size(); ++k) owed_[k] = touches(bucket, k);
}

void LowRankCompressor::settle() const {
  std::vector<Factored> batch;
  for (std::size_t k = 0; k < owed_.size(); ++k) {
    if (owed_[k]) batch.push_back(factored(k, residual_->flat(), owed_side_, factor(owed_side_).local));
  }
  product(batch, Write::subtract);
  owed_.clear();
}

void LowRankCompressor::reconstruct(Bucket& bucket, Side moving, Write write) {
  product(in_use(bucket, output(bucket), moving, factor(moving).value), write);
}

void LowRankCompressor::subtract_shared(const Bucket& bucket) {
  const auto from = input(bucket), result = output(bucket);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (touches(bucket, k)) matrix(from, slices_[k]).sub_(matrix(result, slices_[k]));
  }
}

void LowRankCompressor::write_back(Bucket& bucket) {
  if (!result_.defined()) return;
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (touches(bucket, k)) bucket.matrix(slices_[k]).copy_(matrix(result_, slices_[k]));
  }
}

void LowRankCompressor::set_levels(std::span<const Level> levels) {
  if (levels.size() != slices_.size()) {
    throw ConfigError("a policy set " + std::to_string(levels.size()) + " ranks for " +
                      std::to_string(slices_.size()) + " parameters");
  }
  std::vector<std::int64_t> ranks;
  bool changed = false;
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    const auto level = levels[k].value_or(0);
    if (levels[k] && (!(level >= 1) || level != std::floor(level))) {
      throw ConfigError("a policy set rank " + std::to_string(level) + " for parameter " + slices_[k].name +
                        ": a rank is a whole number from 1");
    }
    const auto wanted = static_cast<std::int64_t>(std::min(level, 1e9));
    ranks.push_back(effective_rank(slices_[k], wanted));
    changed = changed || ranks[k] != parts_[k].rank;
  }
  if (changed) lay_out(ranks);
}

}  // namespace acp
