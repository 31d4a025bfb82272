// Images in memory as bytes, given out as normalised numbers.
#pragma once

#include <cstdint>
#include <optional>
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

// Random changes of training images: as large as before, cut out of the image with a margin of `margin`
// pixels around it, and every other one flipped left to right.
struct Augmentation {
  std::int64_t margin = 4;  // below height and width
  bool reflect = false;     // the margin mirrors the image; else it is black
  std::uint64_t seed = 42;
};

// Gives inputs {float32 [n, channels, height, width]}, (pixel / 255 - mean) / deviation, and target int64
// [n]; with an augmentation, changed by what its seed, the epoch and the image's number draw.
class ImageSamples final : public Samples {
 public:
  ImageSamples(Images images, const Normalisation& normalisation,
               std::optional<Augmentation> augmentation = std::nullopt);

  std::int64_t size() const override { return images_.count(); }
  Batch get(std::span<const std::int64_t> indices, std::int64_t epoch) const override;
  std::vector<std::int64_t> class_counts() const override;
  const Images& images() const { return images_; }

 private:
  Images images_;
  std::optional<Augmentation> augmentation_;
  std::vector<float> table_;  // [channel][byte]: its normalised number
};

// Both parts normalised by the training part's figures; the training part augmented.
DataSet image_set(std::string name, Images train, Images eval,
                  std::optional<Augmentation> augmentation = std::nullopt);

}  // namespace acp::models
