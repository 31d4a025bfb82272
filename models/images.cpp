// Images in memory as bytes, given out as normalised numbers.
#include "models/images.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "models/random.h"

namespace acp::models {
namespace {

// For each row (column) of a changed image the row (column) of the original, -1 for the black margin: shifted
// by `shift`, mirrored at the edges if `reflect` says so.
std::vector<std::int64_t> sources(std::int64_t size, std::int64_t shift, bool reflect) {
  std::vector<std::int64_t> result;
  for (std::int64_t i = shift; i < size + shift; ++i) {
    const std::int64_t mirrored = i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
    result.push_back(reflect || mirrored == i ? mirrored : -1);
  }
  return result;
}

}  // namespace

Normalisation normalisation_of(const Images& images) {
  Normalisation result;
  const std::int64_t plane = images.height * images.width;
  for (std::int64_t c = 0; c < images.channels; ++c) {
    std::array<std::uint64_t, 256> histogram{};
    for (std::int64_t i = 0; i < images.count(); ++i) {
      const std::uint8_t* pixel = images.pixels.data() + (i * images.channels + c) * plane;
      for (std::int64_t p = 0; p < plane; ++p) ++histogram[pixel[p]];
    }
    std::uint64_t count = 0, sum = 0, squares = 0;
    for (std::uint64_t value = 0; value < histogram.size(); ++value) {
      count += histogram[value];
      sum += value * histogram[value];
      squares += value * value * histogram[value];
    }
    const double n = static_cast<double>(std::max<std::uint64_t>(count, 1));
    const double mean = static_cast<double>(sum) / n;
    const double variance = static_cast<double>(squares) / n - mean * mean;
    result.mean.push_back(mean / 255);
    result.deviation.push_back(variance > 0 ? std::sqrt(variance) / 255 : 1);
  }
  return result;
}

ImageSamples::ImageSamples(Images images, const Normalisation& normalisation,
                           std::optional<Augmentation> augmentation)
    : images_(std::move(images)), augmentation_(augmentation) {
  for (std::size_t c = 0; c < static_cast<std::size_t>(images_.channels); ++c) {
    for (int value = 0; value < 256; ++value) {
      table_.push_back(
          static_cast<float>((value / 255.0 - normalisation.mean[c]) / normalisation.deviation[c]));
    }
  }
}

// Plain loops, because this runs on a loader's thread: torch's operators would start a thread pool of their
// own there.
Batch ImageSamples::get(std::span<const std::int64_t> indices, std::int64_t epoch) const {
  const auto n = static_cast<std::int64_t>(indices.size());
  const auto& [channels, height, width, classes, pixels, labels] = images_;
  const at::Tensor input = torch::empty({n, channels, height, width}, torch::kFloat);
  const at::Tensor target = torch::empty({n}, torch::kLong);
  auto* number = input.mutable_data_ptr<float>();
  auto* label = target.mutable_data_ptr<std::int64_t>();
  std::vector<std::int64_t> rows = sources(height, 0, false), columns = sources(width, 0, false);
  for (const std::int64_t index : indices) {
    if (augmentation_) {
      const auto& [margin, reflect, seed] = *augmentation_;
      Random random{{seed, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(index)}};
      rows = sources(height, random.between(-margin, margin), reflect);
      columns = sources(width, random.between(-margin, margin), reflect);
      if (random.below(2) == 1) std::reverse(columns.begin(), columns.end());
    }
    const std::uint8_t* plane = pixels.data() + index * images_.pixels_per_image();
    const float* table = table_.data();
    for (std::int64_t c = 0; c < channels; ++c, table += 256, plane += height * width) {
      for (const std::int64_t row : rows) {
        for (const std::int64_t column : columns)
          *number++ = table[row < 0 || column < 0 ? 0 : plane[row * width + column]];
      }
    }
    *label++ = labels[static_cast<std::size_t>(index)];
  }
  return {{input}, target, n};
}

std::vector<std::int64_t> ImageSamples::class_counts() const {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(images_.classes));
  for (const std::uint8_t label : images_.labels) ++counts[label];
  return counts;
}

DataSet image_set(std::string name, Images train, Images eval, std::optional<Augmentation> augmentation) {
  const Normalisation normalisation = normalisation_of(train);
  DataSet set{std::move(name),
              {{{{train.channels, train.height, train.width}, 0}}, {{}, train.classes}},
              std::make_shared<ImageSamples>(std::move(train), normalisation, augmentation),
              std::make_shared<ImageSamples>(std::move(eval), normalisation),
              nullptr};
  return set;
}

}  // namespace acp::models
