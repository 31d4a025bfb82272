// The data sets in MNIST's form: MNIST itself and Fashion-MNIST, four IDX files each, 28x28 grey, 10 classes.
#include <algorithm>
#include <cctype>
#include <string>

#include "comm/error.h"
#include "models/file.h"
#include "models/idx.h"
#include "models/images.h"

namespace acp::models {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t side = 28, classes = 10;

Images read_part(const fs::path& folder, const std::string& part) {
  const fs::path image_file = plain_or_gz(folder / (part + "-images-idx3-ubyte"));
  const fs::path label_file = plain_or_gz(folder / (part + "-labels-idx1-ubyte"));
  Idx images = read_idx(image_file, 3);
  Idx labels = read_idx(label_file, 1);
  if (images.shape[1] != side || images.shape[2] != side) {
    throw DataError(image_file.string() + ": images of " + std::to_string(images.shape[1]) + "x" +
                    std::to_string(images.shape[2]) + ", expected 28x28");
  }
  if (images.shape[0] != labels.shape[0]) {
    throw DataError(label_file.string() + ": " + std::to_string(labels.shape[0]) + " labels, expected " +
                    std::to_string(images.shape[0]) + ", one for each image of " + image_file.string());
  }
  if (images.shape[0] == 0) throw DataError(image_file.string() + ": no images");
  const auto wrong =
      std::find_if(labels.bytes.begin(), labels.bytes.end(), [](int l) { return l >= classes; });
  if (wrong != labels.bytes.end()) {
    throw DataError(label_file.string() + ": label " + std::to_string(*wrong) + " at position " +
                    std::to_string(wrong - labels.bytes.begin()) + ", expected 0 to 9");
  }
  return {1, side, side, classes, std::move(images.bytes), std::move(labels.bytes)};
}

// The files of both sets have the same names, so the names of the folder and of the one above it decide.
bool in_fashion_folder(const fs::path& folder) {
  const fs::path full = fs::weakly_canonical(folder);
  std::string names = (full.parent_path().filename() / full.filename()).string();
  std::transform(names.begin(), names.end(), names.begin(), [](unsigned char c) { return std::tolower(c); });
  return names.find("fashion") != std::string::npos;
}

DataSetInfo idx_set(const std::string& name, const std::string& summary, std::vector<std::string> subfolders,
                    const fs::path& system_folder, bool fashion) {
  DataSetInfo info;
  info.name = name;
  info.summary = summary;
  info.subfolders = std::move(subfolders);
  info.files = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                "t10k-labels-idx1-ubyte"};
  info.system_folder = system_folder;
  info.is_mine = [fashion](const fs::path& folder) { return in_fashion_folder(folder) == fashion; };
  info.load = [name](const fs::path& folder, const Values&, const LoadOptions&) {
    return image_set(name, read_part(folder, "train"), read_part(folder, "t10k"));
  };
  return info;
}

const bool mnist = register_data_set(idx_set("mnist", "handwritten digits, 28x28 grey, 60,000 + 10,000",
                                             {"mnist", "MNIST", "MNIST/raw"}, {}, false));

const bool fashion_mnist = register_data_set(idx_set(
    "fashion-mnist", "pictures of clothes, 28x28 grey, 60,000 + 10,000",
    {"fashion-mnist", "FashionMNIST", "FashionMNIST/raw"}, "/usr/share/datasets/fashion-mnist", true));

}  // namespace
}  // namespace acp::models
