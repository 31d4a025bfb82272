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
#include <immintrin.h>
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

#ifdef ACP_AVX2
// float16 by the processor's own conversions, which every processor with AVX2 has; compilers do not find them
// behind c10::Half. The bits are those of c10's arithmetic: it makes one NaN of all when it narrows.
template <class Op>
[[gnu::target("avx2,f16c")]] void half_loop(float* acc, const c10::Half* x, std::int64_t n) {
  const std::int64_t whole = n / 8 * 8;
  for (std::int64_t i = 0; i < whole; i += 8) {
    const __m256 b = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i)));
    alignas(32) float wide[8];
    _mm256_store_ps(wide, b);
    loop<Op>(acc + i, wide, 8);
  }
  loop<Op>(acc + whole, x + whole, n - whole);
}

template <class Op>
[[gnu::target("avx2,f16c")]] void half_loop(c10::Half* x, const float* sums, std::int64_t n) {
  static_assert(std::is_same_v<Op, Second>, "float16 is written, not computed with");
  const std::int64_t whole = n / 8 * 8;
  for (std::int64_t i = 0; i < whole; i += 8) {
    const __m256 v = _mm256_loadu_ps(sums + i);
    const __m256 sign = _mm256_and_ps(v, _mm256_set1_ps(-0.0F));
    const __m256 nan = _mm256_or_ps(sign, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)));
    const __m256 clean = _mm256_blendv_ps(v, nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(x + i), _mm256_cvtps_ph(clean, _MM_FROUND_TO_NEAREST_INT));
  }
  loop<Op>(x + whole, sums + whole, n - whole);
}
#endif

template <class Op, class A, class X>
void dispatch(A* acc, const X* x, std::int64_t n) {
#ifdef ACP_AVX2
  if (__builtin_cpu_supports("avx2")) {
    if constexpr (std::is_same_v<A, c10::Half> || std::is_same_v<X, c10::Half>) {
      return half_loop<Op>(acc, x, n);
    } else {
      return avx2_loop<Op>(acc, x, n);
    }
  }
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
