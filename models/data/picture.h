// JPEG and PNG files as pixels.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace acp::models {

struct Picture {
  std::int64_t height = 0, width = 0;
  std::vector<std::uint8_t> pixels;  // row by row, red, green, blue of each pixel
};

// Decodes a JPEG or PNG file, known by its first bytes; grey and CMYK become RGB, transparency becomes black.
// DataError names the file: cannot be read, neither of the two, damaged, truncated.
Picture read_picture(const std::filesystem::path& path);

// A rectangle of a picture, in pixels; parts of pixels count.
struct Box {
  double top = 0, left = 0, height = 0, width = 0;
};

// That part of a picture as `height` x `width` pixels, numbers of 0 to 255, row by row, red, green, blue of
// each: each is the mean of the pixels around its place, weighted by a triangle as wide as the reduction
// (linear interpolation where nothing is reduced).
std::vector<float> resample(const Picture& picture, const Box& box, std::int64_t height, std::int64_t width);

}  // namespace acp::models
