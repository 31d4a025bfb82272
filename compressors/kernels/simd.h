// Which forms of a kernel the processor can run. Every kernel `f` has a form `f_plain` that any processor
// runs and that the others must equal bit by bit.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#define ACP_AVX2 [[gnu::target("avx2")]]
#endif

namespace acp::kernels {

inline bool has_avx2() {
#ifdef ACP_AVX2
  return __builtin_cpu_supports("avx2") != 0;
#else
  return false;
#endif
}

}  // namespace acp::kernels
