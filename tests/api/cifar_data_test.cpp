// CIFAR-10 and CIFAR-100: records, augmentation, damage; and the real files where they are.
#include <torch/torch.h>

#include "comm/error.h"
#include "models/images.h"
#include "tests/catch.h"
#include "tests/support/data_sets.h"
#include "tests/support/idx_files.h"

namespace acp {
namespace {

using namespace models;
namespace fs = std::filesystem;

// Records of labels i % 10 (CIFAR-100: coarse i % 20, fine i % 100) and pixels all i, 2i, 3i by colour.
FileBytes records(int count, bool hundred, int first = 0) {
  FileBytes bytes;
  for (int i = first; i < first + count; ++i) {
    if (hundred) bytes.push_back(static_cast<std::uint8_t>(i % 20));
    bytes.push_back(static_cast<std::uint8_t>(hundred ? i % 100 : i % 10));
    for (int colour = 1; colour <= 3; ++colour)
      bytes.insert(bytes.end(), 1024, static_cast<std::uint8_t>(colour * i));
  }
  return bytes;
}

TEST_CASE("CIFAR-10 is read from as many batches as there are", "[api][data]") {
  const TempFolder temp;
  temp.write("cifar10/data_batch_1.bin", records(20, false));
  temp.write("cifar10/data_batch_4.bin.gz", gzip(records(10, false, 20)));
  temp.write("cifar10/test_batch.bin", records(10, false));
  const DataSet set = load_set("cifar10", temp.path() / "cifar10", {.augment = false});
  CHECK(set.sample == SampleSpec{{{{3, 32, 32}, 0}}, {{}, 10}});
  CHECK(set.train->class_counts() == std::vector<std::int64_t>(10, 3));
  CHECK(set.eval->size() == 10);
  CHECK(set.order == Order::shuffled);
  // Red is all i for i = 0 to 29: mean 14.5, variance (30^2 - 1) / 12. Blue is the same once normalised.
  const Batch batch = get(*set.train, 23, 1);
  CHECK(batch.inputs.at(0).sizes() == at::IntArrayRef({1, 3, 32, 32}));
  CHECK(batch.target.item<std::int64_t>() == 3);
  for (const int colour : {0, 1, 2}) {
    const auto plane = batch.inputs[0][0][colour];
    CHECK(plane.min().item<double>() == Approx((23 - 14.5) / std::sqrt(899.0 / 12)));
    CHECK(plane.max().equal(plane.min()));
  }
}

TEST_CASE("CIFAR-100 has fine labels or coarse ones", "[api][data]") {
  const TempFolder temp;
  temp.write("train.bin", records(100, true));
  temp.write("test.bin", records(40, true));
  const DataSet fine = load_set("cifar100", temp.path()),
                coarse = load_set("cifar100", temp.path(), {}, {{"labels", "coarse"}});
  CHECK(fine.sample.target.classes == 100);
  CHECK(get(*fine.train, 0, 100).target.equal(torch::arange(100)));
  CHECK(coarse.sample.target.classes == 20);
  CHECK(coarse.eval->class_counts() == std::vector<std::int64_t>(20, 2));
  CHECK_THROWS_AS(load_set("cifar100", temp.path(), {}, {{"labels", "rough"}}), ConfigError);
}

// An image whose pixel (y, x) is 1 + 5y + x, of one colour.
Images numbered_image(std::int64_t side) {
  Images image{1, side, side, 2, {}, {0}};
  for (std::int64_t y = 0; y < side; ++y) {
    for (std::int64_t x = 0; x < side; ++x) image.pixels.push_back(static_cast<std::uint8_t>(1 + 5 * y + x));
  }
  return image;
}

TEST_CASE("training images are cropped with a margin and flipped, by seed, epoch and number", "[api][data]") {
  const Normalisation none{{0}, {1.0 / 255}};  // numbers stay bytes
  const Images image = numbered_image(5);
  const auto original = torch::arange(1, 26, torch::kFloat).reshape({5, 5});
  for (const bool reflect : {false, true}) {
    // What the definition gives: pad, cut, flip.
    namespace F = torch::nn::functional;
    const auto padded =
        (reflect ? F::pad(original.view({1, 1, 5, 5}), F::PadFuncOptions({2, 2, 2, 2}).mode(torch::kReflect))
                 : F::pad(original.view({1, 1, 5, 5}), F::PadFuncOptions({2, 2, 2, 2})))
            .view({9, 9});
    const ImageSamples samples(image, none, Augmentation{.margin = 2, .reflect = reflect, .seed = 3});
    std::vector<std::int64_t> seen(50);
    for (std::int64_t epoch = 0; epoch < 600; ++epoch) {
      const auto cut = get(samples, 0, 1, epoch).inputs[0].view({5, 5});
      std::int64_t matches = 0;
      for (std::int64_t place = 0; place < 50; ++place) {
        auto expected = padded.narrow(0, place / 10, 5).narrow(1, place / 2 % 5, 5);
        if (place % 2 == 1) expected = expected.flip(1);
        if (!cut.allclose(expected)) continue;
        ++seen[static_cast<std::size_t>(place)];
        ++matches;
      }
      REQUIRE(matches >= 1);
    }
    // Each of the 5 x 5 places and both flips come up.
    CHECK(*std::min_element(seen.begin(), seen.end()) > 0);
    CHECK(get(samples, 0, 1, 7).inputs[0].equal(get(samples, 0, 1, 7).inputs[0]));
  }
  const ImageSamples plain(image, none);
  CHECK(get(plain, 0, 1, 5).inputs[0].view({5, 5}).allclose(original));
}

TEST_CASE("CIFAR: only training images are augmented, and only if asked", "[api][data]") {
  const TempFolder temp;
  FileBytes bytes = records(10, false);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i % 3073 != 0) bytes[i] = static_cast<std::uint8_t>(i * 7);
  }
  temp.write("data_batch_1.bin", bytes);
  temp.write("test_batch.bin", bytes);
  const DataSet set = load_set("cifar10", temp.path()),
                other = load_set("cifar10", temp.path(), {.seed = 43}),
                plain = load_set("cifar10", temp.path(), {.augment = false});
  const auto images = [](const Samples& samples, std::int64_t epoch) {
    return get(samples, 0, 10, epoch).inputs[0];
  };
  CHECK(images(*set.train, 0).equal(images(*set.train, 0)));
  CHECK_FALSE(images(*set.train, 0).equal(images(*set.train, 1)));
  CHECK_FALSE(images(*set.train, 0).equal(images(*other.train, 0)));
  CHECK(images(*set.eval, 0).equal(images(*plain.train, 3)));
}

TEST_CASE("damaged CIFAR files are named", "[api][data]") {
  const TempFolder temp;
  temp.write("data_batch_1.bin", records(10, false));
  temp.write("test_batch.bin", records(10, false));
  const auto load = [&] { load_set("cifar10", temp.path()); };
  CHECK_NOTHROW(load());
  SECTION("truncated") {
    FileBytes cut = records(10, false);
    cut.resize(cut.size() - 1);
    temp.write("test_batch.bin", cut);
    CHECK_THROWS_AS(load(), DataError);
    CHECK_THROWS_WITH(load(), ContainsSubstring("test_batch.bin: 30729 bytes, expected a multiple of 3073") &&
                                  ContainsSubstring("record 9 is cut off"));
  }
  SECTION("a wrong label") {
    FileBytes wrong = records(10, false);
    wrong[3 * 3073] = 10;
    temp.write("data_batch_1.bin", wrong);
    CHECK_THROWS_WITH(load(), ContainsSubstring("data_batch_1.bin: record 3: label 10, expected 0 to 9"));
  }
  SECTION("no training batch") {
    fs::remove(temp.path() / "data_batch_1.bin");
    CHECK_THROWS_WITH(load(), ContainsSubstring("data_batch_1.bin[.gz]: no such file"));
  }
  SECTION("no test batch") {
    fs::remove(temp.path() / "test_batch.bin");
    CHECK_THROWS_WITH(load(), ContainsSubstring("test_batch.bin: no such file"));
  }
  SECTION("empty") {
    temp.write("test_batch.bin", {});
    CHECK_THROWS_WITH(load(), ContainsSubstring("test_batch.bin: 0 bytes"));
  }
}

TEST_CASE("real CIFAR-10", "[api][data]") {
  const auto folder = real_folder("cifar10");
  if (folder.empty()) return;
  const DataSet set = load_set("cifar10", folder);
  const std::int64_t each = set.train->size() / 10;
  CHECK(each >= 1000);
  CHECK(set.train->class_counts() == std::vector<std::int64_t>(10, each));
  CHECK(set.eval->class_counts() == std::vector<std::int64_t>(10, set.eval->size() / 10));
  const auto figures = normalisation_of(dynamic_cast<const ImageSamples&>(*set.train).images());
  // Of all 50,000; the part here is near.
  const double mean[] = {0.4914, 0.4822, 0.4465}, deviation[] = {0.2470, 0.2435, 0.2616};
  for (std::size_t c = 0; c < 3; ++c) {
    CHECK(figures.mean.at(c) == Approx(mean[c]).margin(0.005));
    CHECK(figures.deviation.at(c) == Approx(deviation[c]).margin(0.005));
  }
}

TEST_CASE("real CIFAR-100", "[api][data]") {
  const auto folder = real_folder("cifar100");
  if (folder.empty()) return;
  const DataSet set = load_set("cifar100", folder);
  CHECK(set.train->class_counts() == std::vector<std::int64_t>(100, set.train->size() / 100));
  CHECK(set.eval->class_counts() == std::vector<std::int64_t>(100, set.eval->size() / 100));
  const auto figures = normalisation_of(dynamic_cast<const ImageSamples&>(*set.train).images());
  const double mean[] = {0.5071, 0.4865, 0.4409};
  for (std::size_t c = 0; c < 3; ++c) CHECK(figures.mean.at(c) == Approx(mean[c]).margin(0.005));
}

}  // namespace
}  // namespace acp
