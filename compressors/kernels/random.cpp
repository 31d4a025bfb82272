// Philox4x32-10 on 8 counters at a time, or on twice 8.
#include "compressors/kernels/random.h"

#include <algorithm>
#include <cstring>

#include "compressors/kernels/simd.h"
#include "compressors/philox.h"

namespace acp::kernels {
namespace {

using Key = std::array<std::uint32_t, 2>;
using Group = std::array<std::uint32_t, 32>;

Group group_plain(Key key, std::uint64_t group) {
  Group words{};
  for (std::uint64_t c = 0; c < 8; ++c) {
    const std::uint64_t counter = 8 * group + c;
    const auto four = Philox::rounds(
        {static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32U), 0, 0}, key);
    for (std::size_t w = 0; w < 4; ++w) words[8 * w + c] = four[w];
  }
  return words;
}

// Whole groups by `make(group)`, with the ends that begin or stop inside one.
template <class Make>
void fill(std::uint64_t first, std::span<std::uint32_t> out, Make make) {
  while (!out.empty()) {
    const std::size_t skip = first % 32, count = std::min<std::size_t>(32 - skip, out.size());
    const Group words = make(first / 32);
    std::copy_n(words.begin() + static_cast<std::ptrdiff_t>(skip), count, out.begin());
    first += count;
    out = out.subspan(count);
  }
}

#ifdef ACP_AVX2
// Four counters, one in the low half of each 64 bits; the high halves hold what multiplications left there
// and are ignored by the next.
struct Four {
  __m256i x[4];
};

ACP_AVX2 inline void round(Four& s, __m256i key0, __m256i key1) {
  const __m256i a = _mm256_mul_epu32(s.x[0], _mm256_set1_epi64x(0xD2511F53)),
                b = _mm256_mul_epu32(s.x[2], _mm256_set1_epi64x(0xCD9E8D57));
  s.x[0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(b, 32), s.x[1]), key0);
  s.x[1] = b;
  s.x[2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(a, 32), s.x[3]), key1);
  s.x[3] = a;
}

ACP_AVX2 void groups_avx2(Key key, std::uint64_t group, std::uint32_t* out, std::size_t groups) {
  for (std::size_t g = 0; g < groups; ++g, ++group) {
    const auto base = static_cast<long long>(8 * group);
    // Even counters and odd ones, so that the results interleave by a blend.
    const __m256i low = _mm256_add_epi64(_mm256_set1_epi64x(base), _mm256_setr_epi64x(0, 2, 4, 6));
    const __m256i high = _mm256_srli_epi64(low, 32), zero = _mm256_setzero_si256();
    Four even{{low, high, zero, zero}};
    Four odd{{_mm256_add_epi64(low, _mm256_set1_epi64x(1)), high, zero, zero}};
    std::uint32_t k0 = key[0], k1 = key[1];
    for (int r = 0; r < 10; ++r) {
      const __m256i key0 = _mm256_set1_epi64x(k0), key1 = _mm256_set1_epi64x(k1);
      round(even, key0, key1);
      round(odd, key0, key1);
      k0 += 0x9E3779B9U;
      k1 += 0xBB67AE85U;
    }
    for (std::size_t w = 0; w < 4; ++w) {
      const __m256i words = _mm256_blend_epi32(even.x[w], _mm256_slli_epi64(odd.x[w], 32), 0xAA);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32 * g + 8 * w), words);
    }
  }
}

// One group: 8 counters, as above. The masks are full: without one, g++ 12 warns of its own headers.
constexpr __mmask8 all = 0xff;

struct Eight {
  __m512i x[4];
};

ACP_AVX512 inline Eight start(std::uint64_t group) {
  const __m512i low = _mm512_add_epi64(_mm512_set1_epi64(static_cast<long long>(8 * group)),
                                       _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
  return {{low, _mm512_maskz_srli_epi64(all, low, 32), _mm512_setzero_si512(), _mm512_setzero_si512()}};
}

ACP_AVX512 inline void round(Eight& s, __m512i key0, __m512i key1) {
  const __m512i a = _mm512_maskz_mul_epu32(all, s.x[0], _mm512_set1_epi64(0xD2511F53)),
                b = _mm512_maskz_mul_epu32(all, s.x[2], _mm512_set1_epi64(0xCD9E8D57));
  s.x[0] = _mm512_xor_si512(_mm512_xor_si512(_mm512_maskz_srli_epi64(all, b, 32), s.x[1]), key0);
  s.x[1] = b;
  s.x[2] = _mm512_xor_si512(_mm512_xor_si512(_mm512_maskz_srli_epi64(all, a, 32), s.x[3]), key1);
  s.x[3] = a;
}

ACP_AVX512 inline void finish(const Eight& s, std::uint32_t* out) {
  for (std::size_t w = 0; w < 4; ++w) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * w), _mm512_maskz_cvtepi64_epi32(all, s.x[w]));
  }
}

// Pairs of groups, so that one multiplies while the other waits; returns how many groups are done.
ACP_AVX512 std::size_t groups_avx512(Key key, std::uint64_t group, std::uint32_t* out, std::size_t groups) {
  const std::size_t whole = groups / 2 * 2;
  for (std::size_t g = 0; g < whole; g += 2) {
    Eight first = start(group + g), second = start(group + g + 1);
    std::uint32_t k0 = key[0], k1 = key[1];
    for (int r = 0; r < 10; ++r) {
      const __m512i key0 = _mm512_set1_epi64(k0), key1 = _mm512_set1_epi64(k1);
      round(first, key0, key1);
      round(second, key0, key1);
      k0 += 0x9E3779B9U;
      k1 += 0xBB67AE85U;
    }
    finish(first, out + 32 * g);
    finish(second, out + 32 * (g + 1));
  }
  return whole;
}
#endif

}  // namespace

void random_words_plain(Key key, std::uint64_t first, std::span<std::uint32_t> out) {
  fill(first, out, [&](std::uint64_t group) { return group_plain(key, group); });
}

void random_words(Key key, std::uint64_t first, std::span<std::uint32_t> out) {
#ifdef ACP_AVX2
  if (has_avx2()) {
    const std::size_t head = std::min<std::size_t>((32 - first % 32) % 32, out.size());
    random_words_plain(key, first, out.first(head));
    const std::size_t groups = (out.size() - head) / 32;
    std::uint32_t* const to = out.data() + head;
    const std::uint64_t group = (first + head) / 32;
    const std::size_t wide = has_avx512() ? groups_avx512(key, group, to, groups) : 0;
    groups_avx2(key, group + wide, to + 32 * wide, groups - wide);
    const std::size_t done = head + 32 * groups;
    return random_words_plain(key, first + done, out.subspan(done));
  }
#endif
  random_words_plain(key, first, out);
}

}  // namespace acp::kernels
