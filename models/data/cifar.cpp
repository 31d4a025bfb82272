// CIFAR-10 and CIFAR-100 in the owners' binary form: records of label bytes and 32x32 red, then green, then
// blue bytes.
#include <algorithm>
#include <string>

#include "comm/error.h"
#include "models/file.h"
#include "models/images.h"

namespace acp::models {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t pixels = 3 * 32 * 32;

// What stands before a record's pixels.
struct Labels {
  std::size_t bytes;  // of labels
  std::size_t which;  // the one that counts
  std::int64_t classes;
};

Images no_images(const Labels& labels) {
  return {3, 32, 32, labels.classes, {}, {}};
}

// Appends the records of a file.
void read_records(const fs::path& path, const Labels& form, Images& images) {
  const std::vector<std::uint8_t> bytes = read_file(path);
  const std::size_t record = form.bytes + pixels, count = bytes.size() / record;
  if (bytes.empty() || bytes.size() % record != 0) {
    throw DataError(path.string() + ": " + std::to_string(bytes.size()) + " bytes, expected a multiple of " +
                    std::to_string(record) + ", the size of a record (" +
                    (bytes.empty() ? "empty" : "record " + std::to_string(count) + " is cut off") + ")");
  }
  images.pixels.reserve(images.pixels.size() + count * pixels);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t* at = bytes.data() + i * record;
    if (at[form.which] >= form.classes) {
      throw DataError(path.string() + ": record " + std::to_string(i) + ": label " +
                      std::to_string(at[form.which]) + ", expected 0 to " + std::to_string(form.classes - 1));
    }
    images.labels.push_back(at[form.which]);
    images.pixels.insert(images.pixels.end(), at + form.bytes, at + record);
  }
}

std::optional<Augmentation> augmentation(const Values& values, const LoadOptions& options) {
  const std::string paddings[] = {"zero", "reflect"};
  const bool reflect = values.choice("padding", paddings) == "reflect";
  if (!options.augment) return std::nullopt;
  return Augmentation{.margin = 4, .reflect = reflect, .seed = options.seed};
}

const KeyInfo padding{"padding", "zero",
                      "what lies around a training image before it is cropped: zero or reflect"};

DataSet load_cifar10(const fs::path& folder, const Values& values, const LoadOptions& options) {
  const Labels form{1, 0, 10};
  Images train = no_images(form), test = no_images(form);
  std::string read;
  for (int batch = 1; batch <= 5; ++batch) {
    const std::string name = "data_batch_" + std::to_string(batch) + ".bin";
    if (!is_there(folder / name)) continue;
    read_records(plain_or_gz(folder / name), form, train);
    read += ' ' + std::to_string(batch);
  }
  if (read.empty()) {
    throw DataError((folder / "data_batch_1.bin").string() +
                    "[.gz]: no such file, and none of the training batches 2 to 5 either");
  }
  read_records(plain_or_gz(folder / "test_batch.bin"), form, test);
  DataSet set = image_set("cifar10", std::move(train), std::move(test), augmentation(values, options));
  set.facts.push_back("training batches:" + read + " of 1 to 5");
  return set;
}

DataSet load_cifar100(const fs::path& folder, const Values& values, const LoadOptions& options) {
  const std::string labels[] = {"fine", "coarse"};
  const bool coarse = values.choice("labels", labels) == "coarse";
  const Labels form = coarse ? Labels{2, 0, 20} : Labels{2, 1, 100};
  Images train = no_images(form), test = no_images(form);
  read_records(plain_or_gz(folder / "train.bin"), form, train);
  read_records(plain_or_gz(folder / "test.bin"), form, test);
  DataSet set = image_set("cifar100", std::move(train), std::move(test), augmentation(values, options));
  set.facts.emplace_back(coarse ? "labels: coarse" : "labels: fine");
  return set;
}

const bool cifar10 = register_data_set({
    .name = "cifar10",
    .summary = "photographs of 10 kinds of things, 32x32 colour, 50,000 + 10,000",
    .keys = {padding},
    .subfolders = {"cifar10", "cifar-10", "CIFAR10", "cifar-10-batches-bin"},
    .files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
              "data_batch_5.bin", "test_batch.bin"},
    .load = load_cifar10,
});

const bool cifar100 = register_data_set({
    .name = "cifar100",
    .summary = "photographs of 100 kinds of things, 32x32 colour, 50,000 + 10,000",
    .keys = {{"labels", "fine", "fine (100 classes) or coarse (20)"}, padding},
    .subfolders = {"cifar100", "cifar-100", "CIFAR100", "cifar-100-binary"},
    .files = {"train.bin", "test.bin"},
    .load = load_cifar100,
});

}  // namespace
}  // namespace acp::models
