// Images in memory as bytes, given out as normalised numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "models/data_set.h"

namespace acp::models {

struct Images {
  std::int64_t channels = 1, height = 0, width = 0, classes = 0;
  std::vector<std::uint8_t> pixels;  // image by image, channel by channel, row by row
  std::vector<std::uint8_t> labels;  // one an image, each below `classes`

  std::int64_t count() const { return static_cast<std::int64_t>(labels.size()); }
  std::int64_t pixels_per_image() const { return channels * height * width; }
};

// Mean and standard deviation of each channel, of pixels scaled to [0, 1].
struct Normalisation {
  std::vector<double> mean, deviation;
};

// Over all images; a channel of one value has deviation 1. Exact sums, so the same on every machine.
Normalisation normalisation_of(const Images& images);

// Gives inputs {float32 [n, channels, height, width]}, (pixel / 255 - mean) / deviation, and target int64
// [n].
class ImageSamples final : public Samples {
 public:
  ImageSamples(Images images, const Normalisation& normalisation);

  std::int64_t size() const override { return images_.count(); }
  Batch get(std::span<const std::int64_t> indices, std::int64_t epoch) const override;
  std::vector<std::int64_t> class_counts() const override;
  const Images& images() const { return images_; }

 private:
  Images images_;
  std::vector<float> table_;  // [channel][byte]: its normalised number
};

// Both parts normalised by the training part's figures.
DataSet image_set(std::string name, Images train, Images eval);

}  // namespace acp::models
