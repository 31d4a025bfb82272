// See image_model.h.
#include "models/image_model.h"

#include <algorithm>
#include <cmath>

#include "comm/error.h"

namespace acp::models {

using at::Tensor;

namespace {

// The strides of the networks take an image of this side to 1x1.
constexpr std::int64_t smallest_image = 32;

}  // namespace

Tensor ImageModel::forward(Tensor x) {
  for (const auto& [name, stage] : stages_) x = stage(std::move(x));
  return x;
}

std::vector<std::pair<std::string, std::vector<std::int64_t>>> ImageModel::stage_shapes(Tensor x) {
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> shapes;
  for (const auto& [name, stage] : stages_) {
    x = stage(std::move(x));
    shapes.emplace_back(name, x.sizes().vec());
  }
  return shapes;
}

std::int64_t image_of(const Values& values) {
  return values.integer("image", smallest_image, 4096);
}

std::int64_t classes_of(const Values& values) {
  return values.integer("classes", 2, 1 << 24);
}

double width_of(const Values& values) {
  return values.number("width", 1.0 / 64, 16);
}

std::vector<std::int64_t> counts_of(const Values& values, const std::string& key, std::size_t count) {
  const auto numbers = values.list(key);
  const auto is_count = [](double x) { return x >= 1 && x <= 1000 && x == std::floor(x); };
  if (numbers.size() != count || !std::all_of(numbers.begin(), numbers.end(), is_count)) {
    throw ConfigError(key + "=" + values.text(key) + ": must be " + std::to_string(count) +
                      " whole numbers from 1 to 1000, separated by '/'");
  }
  return {numbers.begin(), numbers.end()};
}

ModelInfo image_entry(ModelInfo info, ImageForm form) {
  const std::vector<KeyInfo> common = {
      {"image", std::to_string(form.image), "side of the square images, 32 to 4096 pixels"},
      {"classes", std::to_string(form.classes), "at least 2"},
      {"width", "1", "factor of the number of channels, 1/64 to 16"}};
  info.keys.insert(info.keys.begin(), common.begin(), common.end());
  info.data_sets = form.image == cifar.image
                       ? std::vector<std::string>{"cifar10", "cifar100", "image-folder", "synthetic"}
                       : std::vector<std::string>{"image-folder", "cifar10", "cifar100", "synthetic"};
  info.sample = [](const Values& values) -> SampleSpec {
    const auto image = image_of(values);
    return {{{{3, image, image}, 0}}, {{}, classes_of(values)}};
  };
  info.from_data = {{"image", [](const SampleSpec& sample) { return sample.inputs[0].shape.back(); }},
                    {"classes", [](const SampleSpec& sample) { return sample.target.classes; }}};
  info.make = [make = info.make](const Values& values) {
    static_cast<void>(image_of(values));  // also where the network does not ask for it
    return make(values);
  };
  return info;
}

}  // namespace acp::models
