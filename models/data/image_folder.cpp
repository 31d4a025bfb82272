// Folders of pictures in ImageNet's layout: train/CLASS/*.jpg, val/CLASS/*.jpg. Pictures are decoded when
// they are asked for, on the loader's thread.
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string>

#include "comm/error.h"
#include "models/data/picture.h"
#include "models/data_set.h"
#include "models/random.h"

namespace acp::models {
namespace {

namespace fs = std::filesystem;

bool is_picture(const fs::path& path) {
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return ending == ".jpg" || ending == ".jpeg" || ending == ".png";
}

// Names in the folder, in alphabetical order; those of folders, or of pictures.
std::vector<std::string> names_in(const fs::path& folder, bool folders) {
  std::vector<std::string> names;
  std::error_code code;
  for (fs::directory_iterator each(folder, code), end; !code && each != end; each.increment(code)) {
    const fs::path& path = each->path();
    if (folders ? each->is_directory() : is_picture(path)) names.push_back(path.filename());
  }
  if (code) throw DataError(folder.string() + ": " + code.message());
  std::sort(names.begin(), names.end());
  return names;
}

struct Files {
  fs::path folder;
  std::vector<std::string> classes;
  std::vector<std::pair<std::int32_t, std::string>> pictures;  // class and name

  fs::path path(std::int64_t index) const {
    const auto& [number, name] = pictures[static_cast<std::size_t>(index)];
    return folder / classes[static_cast<std::size_t>(number)] / name;
  }
};

// `classes`: those of training; empty = the folder's own.
Files list_files(const fs::path& folder, std::vector<std::string> classes) {
  const std::vector<std::string> found = names_in(folder, true);
  if (found.empty()) throw DataError(folder.string() + ": no folder for each class in it");
  const bool training = classes.empty();
  Files files{folder, training ? found : std::move(classes), {}};
  for (const std::string& name : found) {
    const auto at = std::lower_bound(files.classes.begin(), files.classes.end(), name);
    if (at == files.classes.end() || *at != name)
      throw DataError((folder / name).string() + ": a class that the training part does not have");
    std::vector<std::string> pictures = names_in(folder / name, false);
    if (training && pictures.empty())
      throw DataError((folder / name).string() + ": no .jpg, .jpeg or .png file of this class");
    for (std::string& picture : pictures)
      files.pictures.emplace_back(static_cast<std::int32_t>(at - files.classes.begin()), std::move(picture));
  }
  if (files.pictures.empty()) throw DataError(folder.string() + ": no .jpg, .jpeg or .png file below it");
  return files;
}

// 8 % to all of the picture's area, 3:4 to 4:3 in shape (Szegedy et al., "Going Deeper with Convolutions",
// 2015, section 6); after ten that do not fit, the largest square in the middle.
Box random_box(const Picture& picture, Random& random) {
  const auto uniform = [&random] { return static_cast<double>(random.below(1 << 30)) / (1 << 30); };
  const auto height = static_cast<double>(picture.height), width = static_cast<double>(picture.width);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double area = height * width * (0.08 + 0.92 * uniform());
    const double shape = std::pow(4.0 / 3, 2 * uniform() - 1);
    const double wide = std::round(std::sqrt(area * shape)), high = std::round(std::sqrt(area / shape));
    if (wide < 1 || high < 1 || wide > width || high > height) continue;
    return {std::floor(uniform() * (height - high + 1)), std::floor(uniform() * (width - wide + 1)), high,
            wide};
  }
  const double side = std::min(height, width);
  return {(height - side) / 2, (width - side) / 2, side, side};
}

// The middle 7/8 (224 of 256) of the largest rectangle of that shape.
Box centre_box(const Picture& picture, std::int64_t height, std::int64_t width) {
  const auto of = [](std::int64_t whole, std::int64_t part) {
    return static_cast<double>(whole) / static_cast<double>(part);
  };
  const double scale = 0.875 * std::min(of(picture.height, height), of(picture.width, width));
  const double high = scale * static_cast<double>(height), wide = scale * static_cast<double>(width);
  return {(static_cast<double>(picture.height) - high) / 2, (static_cast<double>(picture.width) - wide) / 2,
          high, wide};
}

// Mean and standard deviation of ImageNet's training part, of pixels scaled to [0, 1].
constexpr std::array<float, 3> mean{0.485F, 0.456F, 0.406F}, deviation{0.229F, 0.224F, 0.225F};

// Gives inputs {float32 [n, 3, height, width]}, normalised, and target int64 [n].
class FolderSamples final : public Samples {
 public:
  FolderSamples(Files files, std::int64_t height, std::int64_t width, bool augment, std::uint64_t seed)
      : files_(std::move(files)), height_(height), width_(width), augment_(augment), seed_(seed) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(files_.pictures.size()); }

  Batch get(std::span<const std::int64_t> indices, std::int64_t epoch) const override {
    const auto n = static_cast<std::int64_t>(indices.size());
    const at::Tensor input = torch::empty({n, 3, height_, width_}, torch::kFloat);
    const at::Tensor target = torch::empty({n}, torch::kLong);
    auto* number = input.mutable_data_ptr<float>();
    auto* label = target.mutable_data_ptr<std::int64_t>();
    for (const std::int64_t index : indices) {
      number = write(read_picture(files_.path(index)), epoch, index, number);
      *label++ = files_.pictures[static_cast<std::size_t>(index)].first;
    }
    return {{input}, target, n};
  }

  std::vector<std::int64_t> class_counts() const override {
    std::vector<std::int64_t> counts(files_.classes.size());
    for (const auto& [number, name] : files_.pictures) ++counts[static_cast<std::size_t>(number)];
    return counts;
  }

  void check() const override {
    for (std::int64_t i = 0; i < size(); ++i) read_picture(files_.path(i));
  }

 private:
  float* write(const Picture& picture, std::int64_t epoch, std::int64_t index, float* out) const {
    Random random{{seed_, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(index)}};
    const bool as_it_is = picture.height == height_ && picture.width == width_;
    const Box box = as_it_is   ? Box{0, 0, static_cast<double>(height_), static_cast<double>(width_)}
                    : augment_ ? random_box(picture, random)
                               : centre_box(picture, height_, width_);
    const bool flip = augment_ && random.below(2) == 1;
    const std::vector<float> pixels = resample(picture, box, height_, width_);
    for (std::size_t c = 0; c < 3; ++c) {
      for (std::int64_t y = 0; y < height_; ++y) {
        for (std::int64_t x = 0; x < width_; ++x) {
          const std::int64_t from = y * width_ + (flip ? width_ - 1 - x : x);
          *out++ = (pixels[3 * static_cast<std::size_t>(from) + c] / 255 - mean[c]) / deviation[c];
        }
      }
    }
    return out;
  }

  Files files_;
  std::int64_t height_, width_;
  bool augment_;
  std::uint64_t seed_;
};

bool is_folder(const fs::path& path) {
  std::error_code code;
  return fs::is_directory(path, code);
}

DataSet load(const fs::path& folder, const Values&, const LoadOptions& options) {
  const auto& inputs = options.wanted.inputs;
  const bool sized = !inputs.empty() && inputs[0].shape.size() == 3;
  const std::int64_t height = sized ? inputs[0].shape[1] : 224, width = sized ? inputs[0].shape[2] : 224;
  const auto part = [&](Files files, bool training) {
    return std::make_shared<FolderSamples>(std::move(files), height, width, training && options.augment,
                                           options.seed);
  };
  Files train = list_files(folder / "train", {});
  const std::vector<std::string> classes = train.classes;
  DataSet set;
  set.name = "image-folder";
  set.sample = {{{{3, height, width}, 0}}, {{}, static_cast<std::int64_t>(classes.size())}};
  set.train = part(std::move(train), true);
  const bool has_val = is_folder(folder / "val"), has_test = is_folder(folder / "test");
  if (!has_val && !has_test) throw DataError(folder.string() + ": neither val/ nor test/ beside train/");
  set.eval = part(list_files(folder / (has_val ? "val" : "test"), classes), false);
  // ImageNet's own test part has neither classes nor folders.
  if (has_val && has_test && !names_in(folder / "test", true).empty())
    set.test = part(list_files(folder / "test", classes), false);
  constexpr std::size_t most = 10;
  std::string names = "classes:";
  for (std::size_t i = 0; i < std::min(classes.size(), most); ++i) names += ' ' + classes[i];
  set.facts = {names + (classes.size() > most ? " ..." : "")};
  return set;
}

const bool registered = register_data_set({
    .name = "image-folder",
    .summary = "any folder of pictures as ImageNet's: train/CLASS/*.jpg and val/CLASS/*.jpg, JPEG or PNG",
    .subfolders = {"image-folder", "imagenet", "ImageNet", "ILSVRC2012"},
    .files = {"train/"},
    .is_mine = [](const fs::path& folder) { return !names_in(folder / "train", true).empty(); },
    .load = load,
});

}  // namespace
}  // namespace acp::models
