// Sums over a tensor in one pass. They are formed in double, element i in sum i % 8, and the eight sums are
// added in order: the result is the same on every processor.
#pragma once

#include <cstddef>
#include <span>

namespace acp::kernels {

double sum_abs(std::span<const float> x);
double sum_abs_plain(std::span<const float> x);

double sum_sq(std::span<const float> x);
double sum_sq_plain(std::span<const float> x);

// Of the elements below zero and of the others.
struct Halves {
  double negative = 0, other = 0;
  std::size_t negatives = 0;
};
Halves halves(std::span<const float> x);
Halves halves_plain(std::span<const float> x);

// Sums of x - x[0] and of its square, so that equal elements have exactly no variance; and the largest |x|.
struct Moments {
  double sum = 0, squares = 0;
  float largest = 0;
};
Moments moments(std::span<const float> x);
Moments moments_plain(std::span<const float> x);

float largest_abs(std::span<const float> x);  // 0 for none
float largest_abs_plain(std::span<const float> x);

// Both 0 for no elements; never -0.
struct Range {
  float min = 0, max = 0;
};
Range range(std::span<const float> x);
Range range_plain(std::span<const float> x);

}  // namespace acp::kernels
