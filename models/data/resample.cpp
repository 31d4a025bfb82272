// A part of a picture in another size.
#include <algorithm>
#include <cmath>

#include "models/data/picture.h"

namespace acp::models {
namespace {

// The pixels of a row or column that make up one of the result, and their weights.
struct Window {
  std::int64_t begin = 0;
  std::vector<float> weights;  // add up to 1
};

// For `count` places over [start, start + length) of a row of `size` pixels.
std::vector<Window> windows(std::int64_t size, double start, double length, std::int64_t count) {
  const double step = length / static_cast<double>(count), reach = std::max(step, 1.0);
  std::vector<Window> result;
  for (std::int64_t i = 0; i < count; ++i) {
    const double centre = start + (static_cast<double>(i) + 0.5) * step;
    const auto clamp = [size](double x) {
      return std::clamp<std::int64_t>(std::llround(std::floor(x)), 0, size - 1);
    };
    Window window{clamp(centre - reach), {}};
    const std::int64_t last = clamp(centre + reach);
    double sum = 0;
    for (std::int64_t x = window.begin; x <= last; ++x) {
      const double distance = std::abs(static_cast<double>(x) + 0.5 - centre) / reach;
      const double weight = std::max(1 - distance, 0.0);
      window.weights.push_back(static_cast<float>(weight));
      sum += weight;
    }
    for (float& weight : window.weights) weight = static_cast<float>(weight / sum);
    result.push_back(std::move(window));
  }
  return result;
}

}  // namespace

std::vector<float> resample(const Picture& picture, const Box& box, std::int64_t height, std::int64_t width) {
  const auto rows = windows(picture.height, box.top, box.height, height);
  const auto columns = windows(picture.width, box.left, box.width, width);
  // Across first, only the rows that count; then down.
  const std::int64_t first = rows.front().begin;
  const std::int64_t last = rows.back().begin + static_cast<std::int64_t>(rows.back().weights.size());
  const auto stride = static_cast<std::size_t>(3 * width);
  std::vector<float> narrow(static_cast<std::size_t>(last - first) * stride);
  for (std::int64_t y = first; y < last; ++y) {
    const std::uint8_t* row = picture.pixels.data() + 3 * y * picture.width;
    float* out = narrow.data() + static_cast<std::size_t>(y - first) * stride;
    for (const auto& [begin, weights] : columns) {
      const std::uint8_t* pixel = row + 3 * begin;
      float sum[3] = {};
      for (const float weight : weights) {
        for (float& colour : sum) colour += weight * static_cast<float>(*pixel++);
      }
      out = std::copy_n(sum, 3, out);
    }
  }
  std::vector<float> result(static_cast<std::size_t>(height) * stride);
  float* out = result.data();
  for (const auto& [begin, weights] : rows) {
    const float* row = narrow.data() + static_cast<std::size_t>(begin - first) * stride;
    for (const float weight : weights) {
      for (std::size_t x = 0; x < stride; ++x) out[x] += weight * *row++;
    }
    out += stride;
  }
  return result;
}

}  // namespace acp::models
