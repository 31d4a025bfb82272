// Forms of the compress pass: plain, AVX2, AVX-512; the best one is chosen when it is first called.
#include "compressors/kernels/compress.h"

#include <bit>

#include "compressors/kernels/select.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <array>
#endif

namespace acp::kernels {

std::size_t compress_plain(std::span<const float> x, std::uint32_t least, std::uint32_t base,
                           std::uint32_t* indices) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    indices[found] = base + static_cast<std::uint32_t>(i);  // written always: no branch to mispredict
    found += magnitude(x[i]) >= least;
  }
  return found;
}

#if defined(__x86_64__)
namespace {

// For each mask of 8 lanes, the chosen lanes' numbers first.
constexpr auto lanes_of_masks = [] {
  std::array<std::array<std::uint8_t, 8>, 256> table{};
  for (unsigned mask = 0; mask < 256; ++mask) {
    std::size_t to = 0;
    for (unsigned lane = 0; lane < 8; ++lane) {
      if ((mask >> lane & 1U) != 0) table[mask][to++] = static_cast<std::uint8_t>(lane);
    }
  }
  return table;
}();

// Where few elements are chosen, most groups of 32 have none: one test passes over them.
[[gnu::target("avx2,popcnt")]] std::size_t compress_avx2(std::span<const float> x, std::uint32_t least,
                                                         std::uint32_t base, std::uint32_t* indices) {
  if (least == 0 || least > 0x7fffffffU) return compress_plain(x, least, base, indices);
  const __m256i sign = _mm256_set1_epi32(0x7fffffff);
  const __m256i below = _mm256_set1_epi32(static_cast<int>(least - 1));
  std::size_t found = 0, i = 0;
  for (; i + 32 <= x.size(); i += 32) {
    unsigned masks = 0;
    for (unsigned part = 0; part < 4; ++part) {
      const auto bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.data() + i + 8 * part));
      const auto chosen = _mm256_cmpgt_epi32(_mm256_and_si256(bits, sign), below);
      masks |= static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(chosen))) << (8 * part);
    }
    if (masks == 0) continue;
    for (unsigned part = 0; part < 4; ++part) {
      const unsigned mask = masks >> (8 * part) & 255U;
      const auto lanes = _mm256_cvtepu8_epi32(
          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(lanes_of_masks[mask].data())));
      const auto first = _mm256_set1_epi32(static_cast<int>(base + static_cast<std::uint32_t>(i) + 8 * part));
      // Eight numbers are written; those behind the chosen ones are overwritten next, and never pass the end.
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(indices + found), _mm256_add_epi32(first, lanes));
      found += static_cast<std::size_t>(std::popcount(mask));
    }
  }
  return found + compress_plain(x.subspan(i), least, base + static_cast<std::uint32_t>(i), indices + found);
}

[[gnu::target("avx512f,popcnt")]] std::size_t compress_avx512(std::span<const float> x, std::uint32_t least,
                                                              std::uint32_t base, std::uint32_t* indices) {
  const __m512i sign = _mm512_set1_epi32(0x7fffffff);
  const __m512i bound = _mm512_set1_epi32(static_cast<int>(least));
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  std::size_t found = 0, i = 0;
  for (; i + 64 <= x.size(); i += 64) {
    std::array<__mmask16, 4> masks{};
    for (unsigned part = 0; part < 4; ++part) {
      const auto bits = _mm512_loadu_si512(x.data() + i + 16 * part);
      masks[part] = _mm512_cmpge_epu32_mask(_mm512_and_si512(bits, sign), bound);
    }
    if ((masks[0] | masks[1] | masks[2] | masks[3]) == 0) continue;
    for (unsigned part = 0; part < 4; ++part) {
      const auto first =
          _mm512_set1_epi32(static_cast<int>(base + static_cast<std::uint32_t>(i) + 16 * part));
      // Compressed in the register and stored whole: a compressing store is slow on some processors.
      _mm512_storeu_si512(indices + found,
                          _mm512_maskz_compress_epi32(masks[part], _mm512_add_epi32(first, lanes)));
      found += static_cast<std::size_t>(std::popcount(static_cast<unsigned>(masks[part])));
    }
  }
  return found + compress_plain(x.subspan(i), least, base + static_cast<std::uint32_t>(i), indices + found);
}

CompressForm best() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return compress_avx512;
  if (__builtin_cpu_supports("avx2")) return compress_avx2;
  return compress_plain;
}

}  // namespace

std::size_t compress(std::span<const float> x, std::uint32_t least, std::uint32_t base,
                     std::uint32_t* indices) {
  static const CompressForm form = best();
  return form(x, least, base, indices);
}

std::vector<CompressForm> compress_forms() {
  std::vector<CompressForm> forms{compress_plain};
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) forms.push_back(compress_avx2);
  if (__builtin_cpu_supports("avx512f")) forms.push_back(compress_avx512);
  return forms;
}
#else
std::size_t compress(std::span<const float> x, std::uint32_t least, std::uint32_t base,
                     std::uint32_t* indices) {
  return compress_plain(x, least, base, indices);
}

std::vector<CompressForm> compress_forms() {
  return {compress_plain};
}
#endif

}  // namespace acp::kernels
