// Plain loops that the compiler turns into vector code, built for the base instruction set and for AVX2;
// nothing here multiplies and adds in one expression, so both give the same bits.
#include "comm/algorithms/reduce_kernels.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <string>
#include <type_traits>

#include "comm/error.h"

#if defined(__x86_64__)
#define ACP_AVX2 1
#endif

namespace acp {

namespace {

struct Sum {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      using U = std::make_unsigned_t<T>;  // wraps around instead of overflowing
      return static_cast<T>(static_cast<U>(static_cast<U>(a) + static_cast<U>(b)));
    } else {
      return a + b;
    }
  }
};

// The comparison with itself keeps a NaN, whichever side it is on.
struct Min {
  template <class T>
  static T of(T a, T b) {
    return b < a || b != b ? b : a;
  }
};

struct Max {
  template <class T>
  static T of(T a, T b) {
    return a < b || b != b ? b : a;
  }
};

struct Second {
  template <class T>
  static T of(T, T b) {
    return b;
  }
};

// One loop for all: acc[i] = Op(acc[i], x[i]) in the type of acc.
template <class Op, class A, class X>
[[gnu::always_inline]] inline void loop(A* __restrict acc, const X* __restrict x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) acc[i] = Op::of(acc[i], static_cast<A>(x[i]));
}

template <class Op, class A, class X>
void base_loop(A* acc, const X* x, std::int64_t n) {
  loop<Op>(acc, x, n);
}

#ifdef ACP_AVX2
template <class Op, class A, class X>
[[gnu::target("avx2")]] void avx2_loop(A* acc, const X* x, std::int64_t n) {
  loop<Op>(acc, x, n);
}
#endif

template <class Op, class A, class X>
void dispatch(A* acc, const X* x, std::int64_t n) {
#ifdef ACP_AVX2
  if (__builtin_cpu_supports("avx2")) return avx2_loop<Op>(acc, x, n);
#endif
  base_loop<Op>(acc, x, n);
}

template <class A, class X>
void reduce(A* acc, const X* x, std::int64_t n, ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
    case ReduceOp::average:
      return dispatch<Sum>(acc, x, n);
    case ReduceOp::min:
      return dispatch<Min>(acc, x, n);
    case ReduceOp::max:
      return dispatch<Max>(acc, x, n);
  }
}

template <class T>
void reduce_bytes(std::byte* acc, const std::byte* x, std::int64_t n, ReduceOp op) {
  reduce(reinterpret_cast<T*>(acc), reinterpret_cast<const T*>(x), n, op);
}

[[noreturn]] void no_such_type(at::ScalarType type) {
  throw ConfigError(std::string("elements of type ") + c10::toString(type) +
                    " cannot be reduced; float16, bfloat16, float32, float64, int32, int64 and uint8 can");
}

}  // namespace

void check_reducible(at::ScalarType type, ReduceOp op) {
  switch (type) {
    case at::kHalf:
    case at::kBFloat16:
    case at::kFloat:
    case at::kDouble:
      return;
    case at::kInt:
    case at::kLong:
    case at::kByte:
      break;
    default:
      no_such_type(type);
  }
  if (op == ReduceOp::average) {
    throw ConfigError(std::string("an average needs a floating type, not ") + c10::toString(type) +
                      "; take the sum and divide it as you want it rounded");
  }
}

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
      no_such_type(type);
  }
}

void divide(std::byte* x, std::int64_t n, at::ScalarType type, int divisor) {
  if (type == at::kFloat) {
    auto* const values = reinterpret_cast<float*>(x);
    const auto by = static_cast<float>(divisor);
    for (std::int64_t i = 0; i < n; ++i) values[i] /= by;
  } else if (type == at::kDouble) {
    auto* const values = reinterpret_cast<double*>(x);
    const auto by = static_cast<double>(divisor);
    for (std::int64_t i = 0; i < n; ++i) values[i] /= by;
  } else {
    check_reducible(type, ReduceOp::average);
    no_such_type(type);
  }
}

void widen(float* sums, const std::byte* x, std::int64_t n, at::ScalarType type) {
  if (type == at::kHalf) return dispatch<Second>(sums, reinterpret_cast<const c10::Half*>(x), n);
  dispatch<Second>(sums, reinterpret_cast<const c10::BFloat16*>(x), n);
}

void reduce_widened(float* sums, const std::byte* x, std::int64_t n, at::ScalarType type, ReduceOp op) {
  if (type == at::kHalf) return reduce(sums, reinterpret_cast<const c10::Half*>(x), n, op);
  reduce(sums, reinterpret_cast<const c10::BFloat16*>(x), n, op);
}

void narrow(std::byte* x, const float* sums, std::int64_t n, at::ScalarType type) {
  if (type == at::kHalf) return dispatch<Second>(reinterpret_cast<c10::Half*>(x), sums, n);
  dispatch<Second>(reinterpret_cast<c10::BFloat16*>(x), sums, n);
}

}  // namespace acp
