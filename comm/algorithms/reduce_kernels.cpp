// Plain loops that the compiler turns into SIMD; no fused multiply-add, so every machine gives the same bits.
#include "comm/algorithms/reduce_kernels.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "comm/error.h"

namespace acp {

namespace {

template <class T>
void reduce_typed(T* __restrict acc, const T* __restrict x, std::int64_t n, ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
    case ReduceOp::average:
      for (std::int64_t i = 0; i < n; ++i) acc[i] = static_cast<T>(acc[i] + x[i]);
      break;
    case ReduceOp::min:  // a NaN stays one, whichever side it is on
      for (std::int64_t i = 0; i < n; ++i) acc[i] = (x[i] < acc[i] || x[i] != x[i]) ? x[i] : acc[i];
      break;
    case ReduceOp::max:
      for (std::int64_t i = 0; i < n; ++i) acc[i] = (x[i] > acc[i] || x[i] != x[i]) ? x[i] : acc[i];
      break;
  }
}

template <class T>
void reduce_bytes(std::byte* acc, const std::byte* x, std::int64_t n, ReduceOp op) {
  reduce_typed(reinterpret_cast<T*>(acc), reinterpret_cast<const T*>(x), n, op);
}

}  // namespace

void reduce_into(std::byte* acc, const std::byte* x, std::int64_t n, at::ScalarType type, ReduceOp op) {
  switch (type) {
    case at::kFloat:
      return reduce_bytes<float>(acc, x, n, op);
    case at::kDouble:
      return reduce_bytes<double>(acc, x, n, op);
    case at::kInt:
      return reduce_bytes<std::int32_t>(acc, x, n, op);
    case at::kLong:
      return reduce_bytes<std::int64_t>(acc, x, n, op);
    case at::kByte:
      return reduce_bytes<std::uint8_t>(acc, x, n, op);
    default:
      throw ConfigError(std::string("cannot reduce elements of type ") + at::toString(type));
  }
}

void divide(std::byte* x, std::int64_t n, at::ScalarType type, int divisor) {
  if (type == at::kFloat) {
    auto* p = reinterpret_cast<float*>(x);
    for (std::int64_t i = 0; i < n; ++i) p[i] /= static_cast<float>(divisor);
  } else if (type == at::kDouble) {
    auto* p = reinterpret_cast<double*>(x);
    for (std::int64_t i = 0; i < n; ++i) p[i] /= divisor;
  } else {
    throw ConfigError(std::string("cannot average elements of type ") + at::toString(type));
  }
}

void add_half(float* sums, const std::byte* x, std::int64_t n, at::ScalarType type) {
  if (type == at::kHalf) {
    const auto* p = reinterpret_cast<const at::Half*>(x);
    for (std::int64_t i = 0; i < n; ++i) sums[i] += static_cast<float>(p[i]);
  } else {
    const auto* p = reinterpret_cast<const at::BFloat16*>(x);
    for (std::int64_t i = 0; i < n; ++i) sums[i] += static_cast<float>(p[i]);
  }
}

void round_half(std::byte* x, const float* sums, std::int64_t n, at::ScalarType type) {
  if (type == at::kHalf) {
    auto* p = reinterpret_cast<at::Half*>(x);
    for (std::int64_t i = 0; i < n; ++i) p[i] = static_cast<at::Half>(sums[i]);
  } else {
    auto* p = reinterpret_cast<at::BFloat16*>(x);
    for (std::int64_t i = 0; i < n; ++i) p[i] = static_cast<at::BFloat16>(sums[i]);
  }
}

}  // namespace acp
