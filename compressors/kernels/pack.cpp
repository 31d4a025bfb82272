// Packing: words of 8 bytes in the plain form, 4 of them at once in the other.
#include "compressors/kernels/pack.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "compressors/kernels/level_arithmetic.h"
#include "compressors/kernels/simd.h"

namespace acp::kernels {
namespace {

static_assert(std::endian::native == std::endian::little);

unsigned sign_byte(const float* x, std::size_t count) {
  unsigned byte = 0;
  for (std::size_t j = 0; j < count; ++j) byte |= static_cast<unsigned>(x[j] >= 0) << j;
  return byte;
}

bool bit(const std::byte* bits, std::size_t i) {
  return (std::to_integer<unsigned>(bits[i / 8]) >> (i % 8) & 1U) != 0;
}

}  // namespace

void pack_signs_plain(std::span<const float> x, std::byte* bits) {
  for (std::size_t i = 0; i < x.size(); i += 8) {
    bits[i / 8] = std::byte(sign_byte(x.data() + i, std::min<std::size_t>(8, x.size() - i)));
  }
}

void pack_signs_keep_plain(std::span<float> y, float plus, float minus, std::byte* bits) {
  for (std::size_t i = 0; i < y.size(); i += 8) {
    const auto count = std::min<std::size_t>(8, y.size() - i);
    bits[i / 8] = std::byte(sign_byte(y.data() + i, count));
    for (std::size_t j = i; j < i + count; ++j) y[j] -= y[j] >= 0 ? plus : minus;
  }
}

void unpack_signs_plain(const std::byte* bits, float plus, float minus, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = bit(bits, i) ? plus : minus;
}

void pack_levels_plain(std::span<const std::uint8_t> levels, int bits, std::byte* packed) {
  const auto q = static_cast<std::size_t>(bits);
  for (std::size_t i = 0; i < levels.size(); i += 8) {
    const auto count = std::min<std::size_t>(8, levels.size() - i);
    std::uint64_t word = 0;
    std::memcpy(&word, levels.data() + i, count);
    word = join(word, bits);
    std::memcpy(packed + i / 8 * q, &word, packed_bytes(count, bits));
  }
}

void unpack_levels_plain(const std::byte* packed, int bits, std::span<std::uint8_t> levels) {
  const auto q = static_cast<std::size_t>(bits);
  const Masks masks(bits);
  for (std::size_t i = 0; i < levels.size(); i += 8) {
    const auto count = std::min<std::size_t>(8, levels.size() - i);
    std::uint64_t word = 0;
    std::memcpy(&word, packed + i / 8 * q, packed_bytes(count, bits));
    word = part(word, bits, masks);
    std::memcpy(levels.data() + i, &word, count);
  }
}

std::uint8_t largest_level(std::span<const std::uint8_t> levels) {
  std::uint8_t result = 0;
  for (const auto level : levels) result = std::max(result, level);
  return result;
}

#ifdef ACP_AVX2
namespace {

ACP_AVX2 unsigned sign_byte(__m256 x) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GE_OQ)));
}

// The form for whole groups of 32; returns how many elements it has done.
ACP_AVX2 std::size_t pack_signs_avx2(std::span<const float> x, std::byte* bits) {
  const std::size_t whole = x.size() / 32 * 32;
  for (std::size_t i = 0; i < whole; i += 32) {
    std::uint32_t word = 0;
    for (std::size_t k = 0; k < 4; ++k) word |= sign_byte(_mm256_loadu_ps(x.data() + i + 8 * k)) << (8 * k);
    std::memcpy(bits + i / 8, &word, sizeof word);
  }
  return whole;
}

ACP_AVX2 std::size_t pack_signs_keep_avx2(std::span<float> y, float plus, float minus, std::byte* bits) {
  const std::size_t whole = y.size() / 32 * 32;
  const __m256 up = _mm256_set1_ps(plus), down = _mm256_set1_ps(minus), zero = _mm256_setzero_ps();
  for (std::size_t i = 0; i < whole; i += 32) {
    std::uint32_t word = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      float* const at = y.data() + i + 8 * k;
      const __m256 v = _mm256_loadu_ps(at), positive = _mm256_cmp_ps(v, zero, _CMP_GE_OQ);
      word |= static_cast<unsigned>(_mm256_movemask_ps(positive)) << (8 * k);
      _mm256_storeu_ps(at, _mm256_sub_ps(v, _mm256_blendv_ps(down, up, positive)));
    }
    std::memcpy(bits + i / 8, &word, sizeof word);
  }
  return whole;
}

ACP_AVX2 std::size_t unpack_signs_avx2(const std::byte* bits, float plus, float minus, std::span<float> out) {
  const std::size_t whole = out.size() / 8 * 8;
  const __m256 up = _mm256_set1_ps(plus), down = _mm256_set1_ps(minus);
  const __m256i places = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  for (std::size_t i = 0; i < whole; i += 8) {
    const __m256i byte = _mm256_set1_epi32(std::to_integer<int>(bits[i / 8]));
    const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(byte, places), places);
    _mm256_storeu_ps(out.data() + i, _mm256_blendv_ps(down, up, _mm256_castsi256_ps(set)));
  }
  return whole;
}

// join() and part() on 4 words; `keep` and `move` are the masks of one step.
ACP_AVX2 __m256i step_right(__m256i v, std::uint64_t keep, int shift) {
  const __m256i mask = _mm256_set1_epi64x(static_cast<long long>(keep));
  return _mm256_or_si256(_mm256_and_si256(v, mask),
                         _mm256_srl_epi64(_mm256_andnot_si256(mask, v), _mm_cvtsi32_si128(shift)));
}

ACP_AVX2 __m256i step_left(__m256i v, std::uint64_t keep, int width, int shift) {
  const __m256i low = _mm256_set1_epi64x(static_cast<long long>(keep));
  const std::uint64_t kept_high = keep << width;
  const __m256i high = _mm256_set1_epi64x(static_cast<long long>(kept_high));
  return _mm256_or_si256(_mm256_and_si256(v, low),
                         _mm256_sll_epi64(_mm256_and_si256(v, high), _mm_cvtsi32_si128(shift)));
}

// 32 levels a turn. A word is stored with all its 8 bytes, the next one overwrites what is too much; so the
// last turns, whose words would reach beyond the end, are left to the plain form.
ACP_AVX2 std::size_t pack_levels_avx2(std::span<const std::uint8_t> levels, int bits, std::byte* packed) {
  const auto q = static_cast<std::size_t>(bits);
  const std::size_t end = packed_bytes(levels.size(), bits);
  std::size_t i = 0;
  for (; i + 32 <= levels.size() && i / 8 * q + 3 * q + 8 <= end; i += 32) {
    __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(levels.data() + i));
    v = step_right(v, pairs, 8 - bits);
    v = step_right(v, fours, 16 - 2 * bits);
    v = step_right(v, eights, 32 - 4 * bits);
    std::byte* const to = packed + i / 8 * q;
    const __m128i low = _mm256_castsi256_si128(v), high = _mm256_extracti128_si256(v, 1);
    const std::uint64_t words[] = {static_cast<std::uint64_t>(_mm_cvtsi128_si64(low)),
                                   static_cast<std::uint64_t>(_mm_extract_epi64(low, 1)),
                                   static_cast<std::uint64_t>(_mm_cvtsi128_si64(high)),
                                   static_cast<std::uint64_t>(_mm_extract_epi64(high, 1))};
    for (std::size_t k = 0; k < 4; ++k) std::memcpy(to + k * q, &words[k], 8);
  }
  return i;
}

ACP_AVX2 std::size_t unpack_levels_avx2(const std::byte* packed, int bits, std::span<std::uint8_t> levels) {
  const auto q = static_cast<std::size_t>(bits);
  const std::size_t end = packed_bytes(levels.size(), bits);
  const Masks masks(bits);
  std::size_t i = 0;
  for (; i + 32 <= levels.size() && i / 8 * q + 3 * q + 8 <= end; i += 32) {
    long long words[4];
    for (std::size_t k = 0; k < 4; ++k) std::memcpy(&words[k], packed + (i / 8 + k) * q, 8);
    __m256i v = _mm256_setr_epi64x(words[0], words[1], words[2], words[3]);
    v = step_left(v, masks.four, 4 * bits, 32 - 4 * bits);
    v = step_left(v, masks.two, 2 * bits, 16 - 2 * bits);
    v = step_left(v, masks.one, bits, 8 - bits);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(levels.data() + i), v);
  }
  return i;
}

}  // namespace
#endif

void pack_signs(std::span<const float> x, std::byte* bits) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = pack_signs_avx2(x, bits);
#endif
  pack_signs_plain(x.subspan(done), bits + done / 8);
}

void pack_signs_keep(std::span<float> y, float plus, float minus, std::byte* bits) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = pack_signs_keep_avx2(y, plus, minus, bits);
#endif
  pack_signs_keep_plain(y.subspan(done), plus, minus, bits + done / 8);
}

void unpack_signs(const std::byte* bits, float plus, float minus, std::span<float> out) {
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = unpack_signs_avx2(bits, plus, minus, out);
#endif
  unpack_signs_plain(bits + done / 8, plus, minus, out.subspan(done));
}

void pack_levels(std::span<const std::uint8_t> levels, int bits, std::byte* packed) {
  if (bits == 8) {
    if (!levels.empty()) std::memcpy(packed, levels.data(), levels.size());
    return;
  }
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = pack_levels_avx2(levels, bits, packed);
#endif
  pack_levels_plain(levels.subspan(done), bits, packed + done / 8 * static_cast<std::size_t>(bits));
}

void unpack_levels(const std::byte* packed, int bits, std::span<std::uint8_t> levels) {
  if (bits == 8) {
    if (!levels.empty()) std::memcpy(levels.data(), packed, levels.size());
    return;
  }
  std::size_t done = 0;
#ifdef ACP_AVX2
  if (has_avx2()) done = unpack_levels_avx2(packed, bits, levels);
#endif
  unpack_levels_plain(packed + done / 8 * static_cast<std::size_t>(bits), bits, levels.subspan(done));
}

}  // namespace acp::kernels
