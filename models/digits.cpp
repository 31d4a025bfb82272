// Procedural digits: strokes drawn through a random deformation, in fixed-point arithmetic.
#include "models/digits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <span>

#include "models/random.h"

namespace acp::models {
namespace {

constexpr std::int64_t side = 28;
constexpr std::int64_t one = 256;  // a pixel, in the units of all lengths below

// A piece of a stroke: a quadratic Bezier curve from (x0, y0) to (x1, y1), pulled towards (cx, cy). The grid
// is 18 wide and 28 high with its origin in the middle and y downwards.
struct Curve {
  std::int8_t x0, y0, cx, cy, x1, y1;
};

// Several ways to write each digit. Pieces that meet have the same end point, so a bent stroke stays whole.
constexpr Curve zero[] = {
    {0, -14, 9, -14, 9, 0}, {9, 0, 9, 14, 0, 14}, {0, 14, -9, 14, -9, 0}, {-9, 0, -9, -14, 0, -14}};
constexpr Curve narrow_zero[] = {
    {1, -14, 7, -12, 6, 0}, {6, 0, 5, 14, -1, 14}, {-1, 14, -7, 12, -6, 0}, {-6, 0, -5, -14, 1, -14}};
constexpr Curve stem[] = {{0, -14, 0, 0, 0, 14}};
constexpr Curve flagged_one[] = {{-6, -7, -2, -9, 1, -14}, {1, -14, 1, 0, 1, 14}};
constexpr Curve based_one[] = {{-5, -8, -2, -10, 0, -14}, {0, -14, 0, 0, 0, 14}, {-6, 14, 0, 14, 6, 14}};
constexpr Curve two[] = {
    {-8, -8, -7, -14, 0, -14}, {0, -14, 8, -14, 8, -7}, {8, -7, 7, 1, -8, 14}, {-8, 14, 0, 14, 9, 14}};
constexpr Curve looped_two[] = {{-7, -9, -5, -14, 1, -14}, {1, -14, 8, -13, 7, -6}, {7, -6, 4, 4, -5, 12},
                                {-5, 12, -10, 14, -8, 9},  {-8, 9, -4, 7, 0, 12},   {0, 12, 4, 15, 9, 11}};
constexpr Curve three[] = {{-7, -11, -4, -14, 0, -14}, {0, -14, 8, -14, 7, -7}, {7, -7, 6, -1, -2, -1},
                           {-2, -1, 8, -1, 8, 6},      {8, 6, 8, 14, 0, 14},    {0, 14, -5, 14, -8, 11}};
constexpr Curve flat_three[] = {{-7, -14, 0, -14, 7, -14},
                                {7, -14, 3, -8, -1, -3},
                                {-1, -3, 8, -3, 8, 5},
                                {8, 5, 8, 14, 0, 14},
                                {0, 14, -5, 14, -8, 11}};
constexpr Curve four[] = {{4, -14, -2, -5, -9, 5}, {-9, 5, 0, 5, 9, 5}, {4, -14, 4, 0, 4, 14}};
constexpr Curve open_four[] = {{-7, -13, -8, -6, -8, 2}, {-8, 2, 0, 3, 8, 2}, {6, -13, 6, 0, 5, 14}};
constexpr Curve five[] = {{8, -14, 0, -14, -6, -14}, {-6, -14, -6, -8, -7, -2}, {-7, -2, -3, -5, 1, -5},
                          {1, -5, 8, -4, 8, 4},      {8, 4, 8, 14, 0, 14},      {0, 14, -5, 14, -8, 11}};
constexpr Curve six[] = {{6, -13, -8, -10, -8, 5},
                         {-8, 5, -8, 14, 0, 14},
                         {0, 14, 8, 14, 8, 6},
                         {8, 6, 8, -2, 0, -2},
                         {0, -2, -7, -2, -8, 5}};
constexpr Curve round_six[] = {{4, -14, -2, -14, -5, -6}, {-5, -6, -8, 2, -7, 7}, {-7, 7, -6, 14, 0, 14},
                               {0, 14, 7, 14, 7, 8},      {7, 8, 7, 2, 1, 2},     {1, 2, -5, 2, -7, 7}};
constexpr Curve seven[] = {{-8, -14, 0, -14, 8, -14}, {8, -14, 2, -2, -3, 14}};
constexpr Curve crossed_seven[] = {{-8, -13, 0, -14, 8, -14}, {8, -14, 3, -3, 0, 14}, {-5, -1, 1, -1, 7, -2}};
constexpr Curve eight[] = {{0, -1, -7, -2, -7, -8}, {-7, -8, -7, -14, 0, -14}, {0, -14, 7, -14, 7, -8},
                           {7, -8, 7, -2, 0, -1},   {0, -1, -8, 0, -8, 7},     {-8, 7, -8, 14, 0, 14},
                           {0, 14, 8, 14, 8, 7},    {8, 7, 8, 0, 0, -1}};
constexpr Curve crossed_eight[] = {{6, -10, 2, -15, -3, -13}, {-3, -13, -8, -9, -2, -3},
                                   {-2, -3, 9, 5, 5, 11},     {5, 11, 0, 17, -5, 11},
                                   {-5, 11, -8, 5, 0, -1},    {0, -1, 6, -5, 6, -10}};
constexpr Curve nine[] = {{8, -6, 8, -14, 0, -14},
                          {0, -14, -8, -14, -8, -6},
                          {-8, -6, -8, 1, 0, 1},
                          {0, 1, 7, 1, 8, -6},
                          {8, -6, 9, 8, 3, 14}};
constexpr Curve hooked_nine[] = {{7, -7, 7, -14, 0, -14}, {0, -14, -7, -14, -7, -7}, {-7, -7, -7, 0, 0, 0},
                                 {0, 0, 6, 0, 7, -7},     {7, -7, 9, 6, 5, 11},      {5, 11, 1, 16, -6, 12}};

using Style = std::span<const Curve>;

Style choose_style(int digit, Random& random) {
  const auto either = [&random](Style a, Style b) { return random.below(2) == 0 ? a : b; };
  switch (digit) {
    case 0:
      return either(zero, narrow_zero);
    case 1:
      return random.below(3) == 0 ? Style(stem) : either(flagged_one, based_one);
    case 2:
      return either(two, looped_two);
    case 3:
      return either(three, flat_three);
    case 4:
      return either(four, open_four);
    case 5:
      return five;
    case 6:
      return either(six, round_six);
    case 7:
      return either(seven, crossed_seven);
    case 8:
      return either(eight, crossed_eight);
    default:
      return either(nine, hooked_nine);
  }
}

struct Point {
  std::int64_t x, y;
};

// From the grid to the picture: bend, slant, scale, turn, shift.
class Deformation {
 public:
  explicit Deformation(Random& random) : bend_key_(random.next()) {
    scale_y_ = random.between(140, 205);  // of the grid's unit, in 1/256 pixels: 15 to 22 pixels high
    scale_x_ = scale_y_ * random.between(75, 120) / 100;
    slant_ = random.between(-70, 110);  // in 1/256
    // cos and sin from the tangent of half the angle (up to 10 degrees), so that integers suffice.
    const std::int64_t t = random.between(-2900, 2900), square = t * t;
    cos_ = (unit * unit - square) * unit / (unit * unit + square);
    sin_ = 2 * t * unit * unit / (unit * unit + square);
    shift_ = {random.between(-5 * one / 2, 5 * one / 2), random.between(-5 * one / 2, 5 * one / 2)};
  }

  Point operator()(std::int64_t x, std::int64_t y) const {
    // Depends on the grid point alone, so that pieces that meet still meet.
    Random bend{{bend_key_, static_cast<std::uint64_t>(x + 64), static_cast<std::uint64_t>(y + 64)}};
    const std::int64_t bent_x = fine * x + bend.between(-bend_most, bend_most);
    const std::int64_t bent_y = fine * y + bend.between(-bend_most, bend_most);
    const std::int64_t wide = scale_x_ * (bent_x - slant_ * bent_y / 256) / fine;
    const std::int64_t high = scale_y_ * bent_y / fine;
    return {(wide * cos_ - high * sin_) / unit + side * one / 2 + shift_.x,
            (wide * sin_ + high * cos_) / unit + side * one / 2 + shift_.y};
  }

 private:
  static constexpr std::int64_t unit = 1 << 14, fine = 16, bend_most = 28;
  std::uint64_t bend_key_;
  std::int64_t scale_x_ = 0, scale_y_ = 0, slant_ = 0, cos_ = 0, sin_ = 0;
  Point shift_{};
};

// Strokes of one thickness, anti-aliased over one pixel.
class Canvas {
 public:
  explicit Canvas(std::int64_t radius) : reach_(radius + one / 2) {}

  void line(Point a, Point b) {
    const std::int64_t ex = b.x - a.x, ey = b.y - a.y, square = ex * ex + ey * ey;
    const std::int64_t length = std::max<std::int64_t>(root(square), 1);
    const std::int64_t first_x = pixel(std::min(a.x, b.x) - reach_),
                       last_x = pixel(std::max(a.x, b.x) + reach_);
    const std::int64_t first_y = pixel(std::min(a.y, b.y) - reach_),
                       last_y = pixel(std::max(a.y, b.y) + reach_);
    for (std::int64_t y = first_y; y <= last_y; ++y) {
      for (std::int64_t x = first_x; x <= last_x; ++x) {
        const std::int64_t wx = x * one + one / 2 - a.x, wy = y * one + one / 2 - a.y;
        const std::int64_t along = wx * ex + wy * ey;
        std::int64_t distance = 0;
        if (along <= 0) {
          distance = root(wx * wx + wy * wy);
        } else if (along >= square) {
          distance = root((wx - ex) * (wx - ex) + (wy - ey) * (wy - ey));
        } else {
          distance = std::abs(wx * ey - wy * ex) / length;
        }
        auto& cover = cover_[static_cast<std::size_t>(y * side + x)];
        cover = std::max(cover, std::clamp<std::int64_t>(reach_ - distance, 0, 255));
      }
    }
  }

  void curve(Point a, Point control, Point b) {
    constexpr std::int64_t pieces = 8;
    Point last = a;
    for (std::int64_t i = 1; i <= pieces; ++i) {
      const std::int64_t j = pieces - i;
      const Point next{(j * j * a.x + 2 * i * j * control.x + i * i * b.x) / (pieces * pieces),
                       (j * j * a.y + 2 * i * j * control.y + i * i * b.y) / (pieces * pieces)};
      line(last, next);
      last = next;
    }
  }

  // With strokes of brightness `ink` and noise of a triangular distribution up to `noise` either way.
  void write(std::uint8_t* out, std::int64_t ink, std::int64_t noise, Random& random) const {
    for (std::size_t i = 0; i < cover_.size(); i += 4) {
      std::uint64_t bits = random.next();
      for (std::size_t j = i; j < i + 4; ++j, bits >>= 16) {
        const auto spread = static_cast<std::int64_t>((bits & 255) + (bits >> 8 & 255)) - 255;
        out[j] = static_cast<std::uint8_t>(
            std::clamp<std::int64_t>(cover_[j] * ink / 255 + spread * noise / 255, 0, 255));
      }
    }
  }

 private:
  // Exact: a square root is rounded correctly on every machine, and the argument is below 2^53.
  static std::int64_t root(std::int64_t x) {
    return static_cast<std::int64_t>(std::sqrt(static_cast<double>(x)));
  }
  static std::int64_t pixel(std::int64_t length) {
    return std::clamp<std::int64_t>(length / one, 0, side - 1);
  }

  std::int64_t reach_;
  std::array<std::int64_t, side * side> cover_{};
};

void draw(int digit, Random& random, std::uint8_t* out) {
  const Deformation deformed(random);
  Canvas canvas(random.between(150, 420));
  for (const Curve& c : choose_style(digit, random)) {
    canvas.curve(deformed(c.x0, c.y0), deformed(c.cx, c.cy), deformed(c.x1, c.y1));
  }
  for (std::int64_t stray = random.below(3); stray > 0; --stray) {
    const Point a{random.below(side * one), random.below(side * one)};
    canvas.line(a, {a.x + random.between(-5 * one, 5 * one), a.y + random.between(-5 * one, 5 * one)});
  }
  const std::int64_t ink = random.between(140, 255);
  canvas.write(out, ink, random.between(20, 90), random);
}

}  // namespace

Images draw_digits(std::int64_t count, std::uint64_t seed, std::uint64_t part) {
  Images images{1, side, side, 10, {}, {}};
  images.pixels.resize(static_cast<std::size_t>(count * side * side));
  images.labels.resize(static_cast<std::size_t>(count));
  std::array<int, 10> order{};
  for (std::int64_t i = 0; i < count; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    if (i % 10 == 0) {
      std::iota(order.begin(), order.end(), 0);
      Random shuffle{{seed, part, index, 1}};
      for (std::int64_t k = 9; k > 0; --k)
        std::swap(order[static_cast<std::size_t>(k)], order[static_cast<std::size_t>(shuffle.below(k + 1))]);
    }
    const int digit = order[static_cast<std::size_t>(i % 10)];
    Random random{{seed, part, index, 2}};
    draw(digit, random, images.pixels.data() + i * side * side);
    images.labels[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(digit);
  }
  return images;
}

namespace {

const bool registered = register_data_set({
    .name = "digits",
    .summary = "digits drawn by a program, 28x28 grey, for when no data is there",
    .keys = {{"train", "60000", "training images, at least 10"},
             {"eval", "10000", "evaluation images, at least 10"}},
    .load =
        [](const std::filesystem::path&, const Values& values, const LoadOptions&) {
          constexpr std::uint64_t seed = 1;  // one data set, whatever the seed of a run
          constexpr std::int64_t most = 10'000'000;
          return image_set("digits", draw_digits(values.integer("train", 10, most), seed, 0),
                           draw_digits(values.integer("eval", 10, most), seed, 1));
        },
});

}  // namespace
}  // namespace acp::models
