// Which forms of a kernel the processor can run. Every kernel `f` has a form `f_plain` that any processor
// runs and that the others must equal bit by bit. AVX-512 forms exist where arithmetic sets the pace; most
// kernels are bound by memory with AVX2 already.
#pragma once

#include <cstdint>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#define ACP_AVX2 [[gnu::target("avx2")]]
#define ACP_AVX512 [[gnu::target("avx512f,avx2")]]
#endif

namespace acp::kernels {

enum class Form : std::uint8_t { plain, avx2, avx512 };

// The widest form in use: what the processor can run, unless use() has set less.
Form form();
// For tests: forms up to this one; more than the processor can run changes nothing.
void use(Form widest);
// What the processor can run, plain first.
std::vector<Form> forms();

inline bool has_avx2() {
  return form() >= Form::avx2;
}
inline bool has_avx512() {
  return form() >= Form::avx512;
}

#ifdef ACP_AVX2
// 4 times 8 numbers below 256 as 32 bytes in order.
ACP_AVX2 inline void store_bytes(const __m256i v[4], std::uint8_t* to) {
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
  const __m256i ordered = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), ordered);
}

ACP_AVX2 inline __m256i load_bytes(const std::uint8_t* from) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
}
#endif

}  // namespace acp::kernels
