// Error memories: the arithmetic of a step, and what a restart needs.
#include "compressors/memory.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "compressors/cuda/dispatch.h"
#include "compressors/finite.h"
#include "compressors/kernels/moments.h"
#include "compressors/kernels/select.h"
#include "compressors/residual.h"

namespace acp {
namespace {

std::span<float> floats(const at::Tensor& x) {
  return {x.data_ptr<float>(), static_cast<std::size_t>(x.numel())};
}

template <class Span>
Span cut(Span all, const Slice& slice) {
  return all.subspan(static_cast<std::size_t>(slice.offset), static_cast<std::size_t>(slice.numel()));
}

}  // namespace

ErrorMemory::ErrorMemory(const Bucket& bucket, MemoryKind kind, Feedback feedback, double momentum,
                         bool measure)
    : kind_(kind),
      feedback_(feedback),
      momentum_(static_cast<float>(momentum)),
      slices_(bucket.slices),
      written_(bucket.slices.size(), 0),
      measure_(measure) {
  const auto zeros = [&] {
    return at::zeros(bucket.grads.sizes(), bucket.grads.options().dtype(at::kFloat));
  };
  if (bucket.grads.scalar_type() != at::kFloat) converted_ = zeros();
  if (kind != MemoryKind::none || feedback.scale != 1) main_ = zeros();
  if (kind == MemoryKind::dgc) velocity_ = zeros();
}

std::span<float> ErrorMemory::part(const at::Tensor& flat, const Slice& slice) const {
  return cut(floats(flat), slice);
}

std::string ErrorMemory::complaint(const Bucket& bucket, int rank) const {
  const auto given = bucket.grads.scalar_type() == at::kFloat ? bucket.grads : bucket.grads.to(at::kFloat);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (bucket.used[k] == 0) continue;
    const auto g = part(given, slices_[k]);
    if (kernels::largest(g) >= kernels::infinite)
      return not_finite(rank, slices_[k].name) + advice_not_finite;
    if (!keeps()) continue;
    // Sums of finite numbers overflow, too; what is checked here is an upper bound of all that take() forms.
    const auto e = part(main_, slices_[k]);
    double reach =
        std::abs(feedback_.scale) * static_cast<double>(std::bit_cast<float>(kernels::largest(g))) +
        static_cast<double>(std::bit_cast<float>(kernels::largest(e)));
    if (kind_ == MemoryKind::dgc) {
      reach += static_cast<double>(std::bit_cast<float>(kernels::largest(part(velocity_, slices_[k]))));
    }
    if (reach > static_cast<double>(std::numeric_limits<float>::max()))
      return overflows(rank, slices_[k].name);
  }
  return {};
}

void ErrorMemory::check(const Bucket& bucket, int rank) const {
  if (const auto what = complaint(bucket, rank); !what.empty()) throw DataError(what);
}

double ErrorMemory::squares(std::span<const float> values) const {
  double sum = 0;
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (measured_[k] != 0) sum += kernels::sum_sq(cut(values, slices_[k]));
  }
  return sum;
}

void ErrorMemory::take(const Bucket& bucket) {
  accumulate(bucket);
  left_ = keeps() ? y_ : std::span<float>();
  if (!measure_) return;
  measured_ = bucket.used;
  norms_ = {0, squares(y_)};
  if (keeps()) return;
  if (!rest_.defined()) rest_ = at::empty(bucket.grads.sizes(), bucket.grads.options().dtype(at::kFloat));
  left_ = floats(rest_);
  std::ranges::copy(y_, left_.begin());
}

at::Tensor ErrorMemory::take(const Bucket& bucket, const device::Kernels& kernels, std::uint32_t* largest) {
  if (converted_.defined()) converted_.copy_(bucket.grads);
  const auto given = converted_.defined() ? converted_ : bucket.grads;
  auto y = main_.defined() ? main_ : given;
  std::vector<device::Sum> sums;
  hidden_.clear();
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    const auto& slice = slices_[k];
    if (bucket.used[k] != 0) {
      const float* const g = given.const_data_ptr<float>() + slice.offset;
      sums.push_back(
          {y.data_ptr<float>() + slice.offset, main_.defined() ? g : nullptr, slice.numel(), largest + k});
      written_[k] = 1;
    } else if (main_.defined()) {
      auto part = main_.narrow(0, slice.offset, slice.numel());
      hidden_.push_back({k, part.clone(), {}});
      part.zero_();
    }
  }
  kernels.accumulate(sums, 1, device::place_of(given));
  return y;
}

void ErrorMemory::accumulate(const Bucket& bucket) {
  if (converted_.defined()) converted_.copy_(bucket.grads);
  const auto given = converted_.defined() ? converted_ : bucket.grads;
  g_ = floats(given);
  y_ = main_.defined() ? floats(main_) : floats(given);
  hidden_.clear();
  if (!main_.defined()) return;
  const auto scale = static_cast<float>(feedback_.scale);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    const auto& slice = slices_[k];
    const auto y = cut(y_, slice);
    const auto g = cut(g_, slice);
    if (bucket.used[k] == 0) {
      if (kind_ != MemoryKind::none) {
        hidden_.push_back({k, main_.narrow(0, slice.offset, slice.numel()).clone(), {}});
        if (velocity_.defined())
          hidden_.back().velocity = velocity_.narrow(0, slice.offset, slice.numel()).clone();
      }
      std::ranges::fill(y, 0.0F);
    } else if (kind_ == MemoryKind::dgc) {
      const auto v = part(velocity_, slice);
      for (std::size_t i = 0; i < y.size(); ++i) {
        v[i] = momentum_ * v[i] + g[i];
        y[i] += v[i];
      }
    } else if (kind_ == MemoryKind::none) {
      for (std::size_t i = 0; i < y.size(); ++i) y[i] = scale * g[i];
    } else if (scale == 1 || (feedback_.first_unscaled && written_[k] == 0)) {
      for (std::size_t i = 0; i < y.size(); ++i) y[i] += g[i];
    } else {
      for (std::size_t i = 0; i < y.size(); ++i) y[i] += scale * g[i];
    }
    if (bucket.used[k] != 0) written_[k] = 1;
  }
}

at::Tensor ErrorMemory::before_gradient() const {
  if (!keeps()) return {};
  return kind_ == MemoryKind::dgc ? at::add(main_, velocity_, momentum_) : main_;
}

void ErrorMemory::sent(std::int64_t offset, std::span<const std::uint32_t> indices,
                       std::span<const float> values) {
  if (left_.empty()) return;
  float* const y = left_.data() + offset;
  for (std::size_t i = 0; i < indices.size(); ++i) y[indices[i]] -= values[i];
  if (kind_ != MemoryKind::dgc) return;
  float* const v = velocity_.data_ptr<float>() + offset;
  for (const auto index : indices) v[index] = 0;
}

void ErrorMemory::sent(std::int64_t offset, std::span<const float> values) {
  if (left_.empty()) return;
  float* const y = left_.data() + offset;
  for (std::size_t i = 0; i < values.size(); ++i) y[i] -= values[i];
  if (kind_ == MemoryKind::dgc) std::fill_n(velocity_.data_ptr<float>() + offset, values.size(), 0.0F);
}

void ErrorMemory::kept(std::int64_t offset, std::uint32_t index, float value) {
  if (kind_ != MemoryKind::none) y_[static_cast<std::size_t>(offset) + index] += value;
}

void ErrorMemory::done() {
  if (!measured_.empty()) norms_.lost = squares(left_);
  measured_.clear();
  for (const auto& hidden : hidden_) {
    const auto& slice = slices_[hidden.slice];
    main_.narrow(0, slice.offset, slice.numel()).copy_(hidden.main);
    if (velocity_.defined()) velocity_.narrow(0, slice.offset, slice.numel()).copy_(hidden.velocity);
  }
  hidden_.clear();
}

void ErrorMemory::save(State& state) const {
  if (!keeps()) return;
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    const auto& slice = slices_[k];
    const auto copy = [&](const at::Tensor& flat) {
      return flat.narrow(0, slice.offset, slice.numel()).view(slice.shape).clone();
    };
    if (written_[k] == 0) continue;
    state[slice.name][kind_ == MemoryKind::dgc ? "accumulated" : "error"] = copy(main_);
    if (velocity_.defined()) state[slice.name]["velocity"] = copy(velocity_);
  }
}

void ErrorMemory::load(const State& state) {
  if (!keeps()) return;
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    const auto& slice = slices_[k];
    const auto paste = [&](const std::string& kind, const at::Tensor& flat) {
      const auto saved = find_state(state, slice.name, kind);
      if (!saved.defined()) return;
      if (saved.sizes() != at::IntArrayRef(slice.shape)) refuse_state(slice.name, kind, saved, slice.shape);
      flat.narrow(0, slice.offset, slice.numel()).view(slice.shape).copy_(saved);
      written_[k] = 1;
    };
    paste(kind_ == MemoryKind::dgc ? "accumulated" : "error", main_);
    if (velocity_.defined()) paste("velocity", velocity_);
  }
}

}  // namespace acp
