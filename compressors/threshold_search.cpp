// The searches of DGC, RedSync and SIDCo. Means and norms are summed in double and rounded to float32;
// thresholds are float32, as the published programs have them.
#include "compressors/threshold_search.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "compressors/kernels/moments.h"
#include "compressors/kernels/select.h"

namespace acp {
namespace {

// Elements that reach t; zeros never do: there is nothing in them to send.
Cut at_least(std::span<const float> x, float t) {
  const auto least = std::max(kernels::magnitude(t), 1U);
  return {least, kernels::count(x, least)};
}

}  // namespace

Cut dgc_threshold(std::span<const float> x, double ratio, std::span<const std::uint32_t> positions) {
  std::vector<std::uint32_t> sample;
  for (const auto position : positions) sample.push_back(kernels::magnitude(x[position]));
  const double n = static_cast<double>(x.size());
  const auto k = std::max<std::size_t>(1, static_cast<std::size_t>(n * ratio * 0.01));
  float t = std::bit_cast<float>(kernels::kth_largest(sample, std::min(k, sample.size())));
  auto cut = at_least(x, t);
  for (int i = 0; i < 10; ++i) {
    const auto count = static_cast<double>(cut.count);
    if (count > 1.3 * n * ratio) {
      t *= 1.3F;
    } else if (count < 0.7 * n * ratio) {
      t *= 0.7F;
    } else {
      break;
    }
    cut = at_least(x, t);
  }
  return cut;
}

std::optional<Cut> redsync_threshold(std::span<const float> x, std::size_t k, bool literal) {
  const auto mean = static_cast<float>(kernels::sum_abs(x) / static_cast<double>(x.size()));
  const auto top = std::bit_cast<float>(kernels::largest(x));
  const double end = literal ? 0.2 : 0.02;
  double low = 0, high = 1;
  Cut cut;
  while (high - low > end) {
    const double t = low + (high - low) / 2;
    const float threshold = mean + static_cast<float>(t) * (top - mean);
    cut.least = std::max(kernels::magnitude(threshold) + 1, 1U);  // strictly above
    cut.count = kernels::count(x, cut.least);
    if (literal ? k < cut.count && cut.count < 2 * k : k <= cut.count && cut.count < 2 * k) return cut;
    const bool lower = literal ? static_cast<double>(cut.count) < static_cast<double>(k) / 2 : cut.count < k;
    (lower ? high : low) = t;
  }
  if (literal) return cut;
  return std::nullopt;
}

std::optional<Cut> sidco_threshold(std::span<const float> x, double ratio, std::int64_t stages) {
  constexpr double first = 0.75;
  double later = 0.25;
  const auto norm = static_cast<float>(std::sqrt(kernels::sum_sq(x)));
  if (!(norm > 0) || !std::isfinite(norm)) return std::nullopt;
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(std::abs(value) / norm);
  const auto mean = static_cast<double>(static_cast<float>(sum / static_cast<double>(x.size())));

  const bool direct = stages == 1 || ratio >= first;
  auto t = static_cast<float>(-mean * std::log(direct ? ratio : first));
  const double rest = ratio / first;
  std::int64_t loops = 0;
  if (stages > 1) {
    loops = stages - 1;
    later = std::pow(rest, 1.0 / static_cast<double>(stages - 1));
  } else if (stages == 0) {
    loops = static_cast<std::int64_t>(std::max(std::ceil(std::log(rest) / std::log(later)), 0.0));
  }

  // The elements above the threshold; they get fewer with each stage.
  std::vector<float> left;
  for (std::int64_t i = loops; i >= 1; --i) {
    if (i == loops) {
      for (const float value : x) {
        if (const float a = std::abs(value) / norm; a > t) left.push_back(a);
      }
    } else {
      std::erase_if(left, [&](float a) { return !(a > t); });
    }
    if (left.empty()) break;
    double total = 0;
    float smallest = left[0];
    for (const float a : left) {
      total += static_cast<double>(a);
      smallest = std::min(smallest, a);
    }
    const auto above = static_cast<double>(static_cast<float>(total / static_cast<double>(left.size())));
    const double share =
        stages == 0 && i == 1 ? rest / std::pow(later, static_cast<double>(loops - 1)) : later;
    t = static_cast<float>(static_cast<double>(smallest) -
                           (above - static_cast<double>(smallest)) * std::log(share));
  }

  // |x| / norm > t as a bound on the magnitude itself: found by stepping, as the division rounds.
  const auto exceeds = [&](std::uint32_t m) { return std::bit_cast<float>(m) / norm > t; };
  auto least = std::max(kernels::magnitude(std::max(t * norm, 0.0F)), 1U);
  while (least > 1 && exceeds(least - 1)) --least;
  while (least < kernels::infinite && !exceeds(least)) ++least;
  return Cut{least, kernels::count(x, least)};
}

}  // namespace acp
