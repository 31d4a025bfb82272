// Exact top-k in about one pass over memory: a threshold just below the k-th magnitude is read off a sample,
// one pass collects what reaches it, and the exact choice is made among those few.
#include "compressors/kernels/select.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>

#include "compressors/kernels/compress.h"

namespace acp::kernels {
namespace {

// Below this many elements sorting them all is as fast as looking for a threshold.
constexpr std::size_t small = 4096;
constexpr std::size_t sample_size = 16384;

// The exact k-th largest magnitude by counting digits, from the highest: three passes whatever the values
// are.
std::uint32_t kth_by_digits(std::span<const float> x, std::size_t k) {
  std::uint32_t prefix = 0, known = 0;  // the digits found so far, and which bits they fill
  for (const auto& [shift, bits] : {std::pair{20U, 11U}, {10U, 10U}, {0U, 10U}}) {
    std::array<std::size_t, 2048> histogram{};
    const std::uint32_t mask = (1U << bits) - 1;
    for (const float value : x) {
      const auto m = magnitude(value);
      if ((m & known) == prefix) ++histogram[(m >> shift) & mask];
    }
    std::uint32_t digit = mask;
    while (histogram[digit] < k) k -= histogram[digit--];
    prefix |= digit << shift;
    known |= mask << shift;
  }
  return prefix;
}

// A magnitude that k elements or somewhat more very probably reach.
std::uint32_t guess(std::span<const float> x, std::size_t k) {
  std::array<std::uint32_t, sample_size> sample;
  const double step = static_cast<double>(x.size()) / sample_size;
  for (std::size_t i = 0; i < sample_size; ++i) {
    // Places of a low-discrepancy sequence inside equal stretches: no period of the data can fool it.
    const double inside = static_cast<double>((i * 0x9E3779B9U) & 0xffffffffU) * 0x1p-32;
    const auto at = static_cast<std::size_t>((static_cast<double>(i) + inside) * step);
    sample[i] = magnitude(x[std::min(at, x.size() - 1)]);
  }
  const double expected = static_cast<double>(k) / step;
  const auto rank = static_cast<std::size_t>(std::ceil(expected + 4 * std::sqrt(expected) + 2));
  if (rank >= sample_size) return 0;
  return kth_largest(sample, rank);
}

// The k-th largest magnitude of these numbers, all of which reach `least`: counted in 2048 classes between
// there and the largest, then sorted in one class alone.
std::uint32_t kth_of_candidates(std::span<const float> values, std::uint32_t least, std::size_t k) {
  const auto range = largest(values) - least;
  const auto shift = static_cast<unsigned>(std::max(static_cast<int>(std::bit_width(range)) - 11, 0));
  std::array<std::uint32_t, 2048> histogram{};
  for (const float value : values) ++histogram[(magnitude(value) - least) >> shift];
  std::uint32_t group = range >> shift;
  while (histogram[group] < k) k -= histogram[group--];
  std::vector<std::uint32_t> members;
  members.reserve(histogram[group]);
  for (const float value : values) {
    if ((magnitude(value) - least) >> shift == group) members.push_back(magnitude(value));
  }
  return kth_largest(members, k);
}

// Leaves the k largest of the candidates from `first` on, the rest goes.
void cut_to(std::size_t k, std::size_t first, std::uint32_t least, std::vector<std::uint32_t>& indices,
            std::vector<float>& values) {
  if (values.size() == k) return;
  const auto limit = kth_of_candidates(values, least, k);
  std::size_t above = 0;
  for (const float value : values) above += magnitude(value) > limit;
  std::size_t equal = k - above;  // how many of those at the limit may stay: the first
  std::size_t to = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto m = magnitude(values[i]);
    const bool tie = m == limit && equal > 0;
    equal -= tie;
    indices[first + to] = indices[first + i];
    values[to] = values[i];
    to += m > limit || tie;
  }
  indices.resize(first + k);
  values.resize(k);
}

}  // namespace

std::uint32_t kth_largest(std::span<std::uint32_t> magnitudes, std::size_t k) {
  const auto nth = magnitudes.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(magnitudes.begin(), nth, magnitudes.end(), std::greater<>());
  return *nth;
}

std::size_t count(std::span<const float> x, std::uint32_t least) {
  // Partial counts of 32 bits let the loop work on whole vectors.
  std::size_t total = 0;
  constexpr std::size_t stretch = 1U << 20U;
  for (std::size_t from = 0; from < x.size(); from += stretch) {
    std::uint32_t part = 0;
    for (const float value : x.subspan(from, std::min(stretch, x.size() - from))) {
      part += magnitude(value) >= least;
    }
    total += part;
  }
  return total;
}

namespace {

// collect(), and the values of what it found while they are in the cache.
bool collect_values(std::span<const float> x, std::uint32_t least, std::size_t most,
                    std::vector<std::uint32_t>& indices, std::vector<float>* values) {
  const std::size_t first = indices.size();
  // Stretches keep the room that must be ready for the worst case small.
  constexpr std::size_t stretch = 1U << 14U;
  std::size_t found = first;
  for (std::size_t from = 0; from < x.size(); from += stretch) {
    const auto part = x.subspan(from, std::min(stretch, x.size() - from));
    if (indices.size() < found + part.size()) {
      indices.resize(std::max(indices.size() * 2, found + part.size()));
    }
    const auto count = compress(part, least, static_cast<std::uint32_t>(from), indices.data() + found);
    if (values != nullptr) {
      const auto at = values->size();
      values->resize(at + count);
      for (std::size_t i = 0; i < count; ++i) (*values)[at + i] = x[indices[found + i]];
    }
    found += count;
    if (found - first > most) {
      indices.resize(first);
      if (values != nullptr) values->clear();
      return false;
    }
  }
  indices.resize(found);
  return true;
}

// More elements at the limit than there is room for: all above it, and the first ones at it.
void take_ties(std::span<const float> x, std::size_t k, std::uint32_t limit,
               std::vector<std::uint32_t>& indices, std::vector<float>& values) {
  std::vector<std::uint32_t> larger, equal;
  collect(x, limit + 1, x.size(), larger);
  for (std::uint32_t i = 0; larger.size() + equal.size() < k; ++i) {
    if (magnitude(x[i]) == limit) equal.push_back(i);
  }
  const auto first = static_cast<std::ptrdiff_t>(indices.size());
  std::ranges::merge(larger, equal, std::back_inserter(indices));
  for (const auto i : std::span(indices).subspan(static_cast<std::size_t>(first))) values.push_back(x[i]);
}

}  // namespace

bool collect(std::span<const float> x, std::uint32_t least, std::size_t most,
             std::vector<std::uint32_t>& indices) {
  return collect_values(x, least, most, indices, nullptr);
}

void top_k(std::span<const float> x, std::size_t k, std::vector<std::uint32_t>& indices,
           std::vector<float>& values) {
  k = std::min(k, x.size());
  values.clear();
  if (k == 0) return;
  const std::size_t first = indices.size();
  if (k == x.size() || x.size() <= small) {
    indices.resize(first + x.size());
    std::iota(indices.begin() + static_cast<std::ptrdiff_t>(first), indices.end(), 0U);
    values.assign(x.begin(), x.end());
    return cut_to(k, first, 0, indices, values);
  }
  const std::size_t most = std::min(x.size(), 2 * k + x.size() / 64);
  auto least = guess(x, k);
  if (!collect_values(x, least, most, indices, &values) || values.size() < k) {
    indices.resize(first);  // many equal values, or an unlucky sample: look exactly
    values.clear();
    least = kth_by_digits(x, k);
    if (!collect_values(x, least, most, indices, &values)) return take_ties(x, k, least, indices, values);
  }
  cut_to(k, first, least, indices, values);
}

std::uint32_t largest(std::span<const float> x) {
  std::uint32_t result = 0;
  for (const float value : x) result = std::max(result, magnitude(value));
  return result;
}

}  // namespace acp::kernels
