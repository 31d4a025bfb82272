// Folders of pictures: decoding, resampling, crops, damage; and the real JPEG files where they are.
#include <png.h>
#include <torch/torch.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <sstream>

// clang-format off: needs <cstdio> before it
#include <jpeglib.h>
// clang-format on

#include "comm/error.h"
#include "models/data/picture.h"
#include "tests/catch.h"
#include "tests/support/data_sets.h"

namespace acp {
namespace {

using namespace models;
namespace fs = std::filesystem;
using FileBytes = std::vector<std::uint8_t>;

Picture one_colour(std::int64_t height, std::int64_t width, std::array<std::uint8_t, 3> colour) {
  Picture picture{height, width, {}};
  for (std::int64_t i = 0; i < height * width; ++i)
    picture.pixels.insert(picture.pixels.end(), colour.begin(), colour.end());
  return picture;
}

FileBytes png(const Picture& picture, int format = PNG_FORMAT_RGB) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.height = static_cast<png_uint_32>(picture.height);
  image.width = static_cast<png_uint_32>(picture.width);
  image.format = static_cast<png_uint_32>(format);
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  FileBytes bytes(size);
  REQUIRE(png_image_write_to_memory(&image, bytes.data(), &size, 0, picture.pixels.data(), 0, nullptr) != 0);
  bytes.resize(size);
  return bytes;
}

// `channels` 1: grey, 3: RGB, 4: CMYK, from as many bytes a pixel.
FileBytes jpeg(std::int64_t height, std::int64_t width, int channels, FileBytes pixels) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &memory, &size);
  info.image_height = static_cast<JDIMENSION>(height);
  info.image_width = static_cast<JDIMENSION>(width);
  info.input_components = channels;
  info.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 95, TRUE);
  jpeg_start_compress(&info, TRUE);
  for (std::int64_t y = 0; y < height; ++y) {
    JSAMPROW row = pixels.data() + y * width * channels;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  FileBytes bytes(memory, memory + size);
  std::free(memory);
  return bytes;
}

FileBytes jpeg(const Picture& picture) {
  return jpeg(picture.height, picture.width, 3, picture.pixels);
}

TEST_CASE("PNG files are read as they are", "[api][data]") {
  const TempFolder temp;
  Picture picture{2, 3, {}};
  for (int i = 0; i < 18; ++i) picture.pixels.push_back(static_cast<std::uint8_t>(14 * i));
  const Picture read = read_picture(temp.write("a.png", png(picture)));
  CHECK(read.height == 2);
  CHECK(read.width == 3);
  CHECK(read.pixels == picture.pixels);
  // Grey; and transparent, which becomes black.
  CHECK(read_picture(temp.write("b.png", png({1, 2, {7, 250}}, PNG_FORMAT_GRAY))).pixels ==
        FileBytes{7, 7, 7, 250, 250, 250});
  CHECK(read_picture(temp.write("c.png", png({1, 1, {90, 80, 70, 0}}, PNG_FORMAT_RGBA))).pixels ==
        FileBytes{0, 0, 0});
}

TEST_CASE("JPEG files are read in colour, grey and CMYK", "[api][data]") {
  const TempFolder temp;
  const auto near = [](const Picture& picture, std::array<int, 3> colour) {
    bool all = !picture.pixels.empty();
    for (std::size_t i = 0; i < picture.pixels.size(); ++i)
      all = all && std::abs(picture.pixels[i] - colour[i % 3]) <= 3;
    return all;
  };
  const Picture colour = read_picture(temp.write("a.jpg", jpeg(one_colour(20, 33, {200, 30, 90}))));
  CHECK(colour.height == 20);
  CHECK(colour.width == 33);
  CHECK(near(colour, {200, 30, 90}));
  CHECK(near(read_picture(temp.write("b.jpg", jpeg(9, 9, 1, FileBytes(81, 77)))), {77, 77, 77}));
  FileBytes cmyk;
  for (int i = 0; i < 64; ++i) cmyk.insert(cmyk.end(), {255, 128, 0, 128});
  CHECK(near(read_picture(temp.write("c.jpg", jpeg(8, 8, 4, cmyk))), {128, 64, 0}));
  // The first bytes decide, not the name.
  CHECK(read_picture(temp.write("d.jpg", png(one_colour(1, 1, {1, 2, 3})))).pixels == FileBytes{1, 2, 3});
}

TEST_CASE("damaged pictures are named", "[api][data]") {
  const TempFolder temp;
  Picture noise{40, 40, {}};
  for (int i = 0; i < 4800; ++i) noise.pixels.push_back(static_cast<std::uint8_t>(i * i * 31 + i / 7));
  const auto failure = [&](const std::string& name, const FileBytes& bytes) {
    try {
      read_picture(temp.write(name, bytes));
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  for (const auto& [name, whole] :
       {std::pair<std::string, FileBytes>{"x.jpg", jpeg(noise)}, {"x.png", png(noise)}}) {
    INFO(name);
    CHECK(failure(name, whole) == "nothing");
    for (const std::size_t left : {10U, 200U, 700U, 1500U, 2200U}) {
      REQUIRE(left < whole.size());
      CHECK_THAT(failure(name, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(left)}),
                 ContainsSubstring((temp.path() / name).string() + ": damaged "));
    }
  }
  CHECK_THAT(failure("x.jpg", {}), ContainsSubstring("x.jpg: empty, expected a picture"));
  CHECK_THAT(failure("x.jpg", {'G', 'I', 'F'}), ContainsSubstring("x.jpg: neither JPEG nor PNG"));
  FileBytes flipped = png(noise);
  flipped[flipped.size() / 2] ^= 0xff;
  CHECK_THAT(failure("x.png", flipped), ContainsSubstring("x.png: damaged PNG file"));
}

TEST_CASE("pictures are resampled", "[api][data]") {
  Picture picture{4, 4, {}};
  for (int y = 0; y < 4; ++y) {
    for (int x = 0; x < 4; ++x)
      picture.pixels.insert(picture.pixels.end(),
                            {static_cast<std::uint8_t>(10 * x), static_cast<std::uint8_t>(20 * y), 9});
  }
  const auto as_tensor = [](const std::vector<float>& numbers, std::int64_t height, std::int64_t width) {
    return torch::tensor(numbers).view({height, width, 3}).permute({2, 0, 1}).contiguous();
  };
  // The whole in the same size is the picture itself.
  const auto same = as_tensor(resample(picture, {0, 0, 4, 4}, 4, 4), 4, 4);
  CHECK(same[0].allclose(torch::tensor({0.F, 10.F, 20.F, 30.F}).expand({4, 4})));
  CHECK(same[1].t().allclose(torch::tensor({0.F, 20.F, 40.F, 60.F}).expand({4, 4})));
  // A pixel alone, and between two.
  CHECK(as_tensor(resample(picture, {2, 1, 1, 1}, 1, 1), 1, 1)
            .flatten()
            .allclose(torch::tensor({10.F, 40.F, 9.F})));
  CHECK(as_tensor(resample(picture, {2, 1.5, 1, 1}, 1, 1), 1, 1)
            .flatten()
            .allclose(torch::tensor({15.F, 40.F, 9.F})));
  // Against torch's, which knows both enlarging and reducing with a triangle.
  const auto image = same.unsqueeze(0);
  const auto square = torch::rand({1, 3, 23, 17}).mul(255).round();
  const auto bytes = square[0].permute({1, 2, 0}).contiguous().to(torch::kByte);
  const Picture random{
      23, 17, {bytes.data_ptr<std::uint8_t>(), bytes.data_ptr<std::uint8_t>() + bytes.numel()}};
  for (const auto& [height, width] :
       {std::pair<std::int64_t, std::int64_t>{8, 5}, {46, 40}, {10, 30}, {23, 17}}) {
    const auto expected = at::_upsample_bilinear2d_aa(square, {height, width}, false);
    const auto mine = as_tensor(resample(random, {0, 0, 23, 17}, height, width), height, width);
    CHECK((mine - expected[0]).abs().max().item<double>() < 0.01);
  }
}

void write_folder(const TempFolder& temp, const std::string& eval) {
  temp.write("train/cat/1.png", png(one_colour(8, 8, {200, 0, 0})));
  temp.write("train/cat/2.JPEG", jpeg(one_colour(30, 50, {0, 200, 0})));
  temp.write("train/dog/1.jpg", jpeg(one_colour(16, 9, {0, 0, 200})));
  temp.write("train/dog/notes.txt", text_bytes("no picture"));
  temp.write(eval + "/dog/1.png", png(one_colour(12, 12, {255, 255, 255})));
}

const SampleSpec eight{{{{3, 8, 8}, 0}}, {{}, 1000}};

TEST_CASE("folders of pictures have a class each", "[api][data]") {
  const TempFolder temp;
  const std::string eval = GENERATE(as<std::string>{}, "val", "test");
  write_folder(temp, eval);
  const DataSet set = load_set("image-folder", temp.path(), {.wanted = eight});
  CHECK(set.sample == SampleSpec{{{{3, 8, 8}, 0}}, {{}, 2}});
  CHECK(set.train->class_counts() == std::vector<std::int64_t>{2, 1});
  CHECK(set.eval->class_counts() == std::vector<std::int64_t>{0, 1});
  CHECK_FALSE(set.test);
  const Batch batch = get_all(*set.train);
  CHECK(batch.inputs.at(0).sizes() == at::IntArrayRef({3, 3, 8, 8}));
  CHECK(batch.target.equal(torch::tensor({0, 0, 1})));
  // One colour stays one colour, however it is cut: (x / 255 - mean) / deviation with ImageNet's figures.
  const double mean[] = {0.485, 0.456, 0.406}, deviation[] = {0.229, 0.224, 0.225};
  for (int i = 0; i < 3; ++i) {
    for (int c = 0; c < 3; ++c) {
      const double expected = ((c == i ? 200.0 : 0.0) / 255 - mean[c]) / deviation[c];
      CHECK((batch.inputs[0][i][c] - expected).abs().max().item<double>() < 0.06);
    }
  }
  CHECK(get_all(*set.eval).inputs[0][0][2].max().item<double>() == Approx((1 - 0.406) / 0.225));
  CHECK(load_set("image-folder", temp.path()).sample.inputs[0].shape ==
        std::vector<std::int64_t>{3, 224, 224});
  const std::vector<std::string> accepted{"image-folder", "synthetic"};
  CHECK(choose_data(accepted, temp.path().string()).set->name == "image-folder");
}

// Each pixel differs: red grows to the right, green down.
Picture slope(std::int64_t height, std::int64_t width) {
  Picture picture{height, width, {}};
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x)
      picture.pixels.insert(picture.pixels.end(),
                            {static_cast<std::uint8_t>(2 * x), static_cast<std::uint8_t>(2 * y), 0});
  }
  return picture;
}

TEST_CASE("pictures are cut at random in training, in the middle in evaluation", "[api][data]") {
  const TempFolder temp;
  for (const char* part : {"train", "val"}) {
    temp.write(std::string(part) + "/a/1.png", png(slope(64, 100)));
    temp.write(std::string(part) + "/a/2.png", png(slope(32, 32)));
  }
  const SampleSpec wanted{{{{3, 32, 32}, 0}}, {{}, 1}};
  const DataSet set = load_set("image-folder", temp.path(), {.wanted = wanted});
  // Back to coordinates in the picture.
  const auto pixels = [](const Samples& samples, std::int64_t index, std::int64_t epoch) {
    const auto image = get(samples, index, 1, epoch).inputs[0][0];
    return std::pair{(image[0] * 0.229 + 0.485) * 255 / 2, (image[1] * 0.224 + 0.456) * 255 / 2};
  };
  // The middle 7/8 of the largest square: 56 of 64 rows, columns 22 to 78; the middle of the first place is
  // half of 56 / 32 = 1.75 pixels inside, and pixel 0 has its middle at 0.5.
  const auto [x, y] = pixels(*set.eval, 0, 0);
  CHECK(x[10][0].item<double>() == Approx(22 + 0.875 - 0.5).margin(0.05));
  CHECK(x[10][31].item<double>() == Approx(78 - 0.875 - 0.5).margin(0.05));
  CHECK(y[0][10].item<double>() == Approx(4 + 0.875 - 0.5).margin(0.05));
  // What has the size already stays as it is, or is flipped.
  const auto columns = torch::arange(32, torch::kFloat).expand({32, 32});
  CHECK(pixels(*set.eval, 1, 0).first.allclose(columns, 0, 1e-3));
  int flipped = 0;
  for (std::int64_t epoch = 0; epoch < 40; ++epoch) {
    const auto across = pixels(*set.train, 1, epoch).first;
    const bool is_flipped = across.allclose(columns.flip(1), 0, 1e-3);
    CHECK((is_flipped || across.allclose(columns, 0, 1e-3)));
    flipped += is_flipped ? 1 : 0;
  }
  CHECK((flipped > 8 && flipped < 32));
  // Others: boxes of 8 % to all of the area and 3:4 to 4:3 in shape, inside the picture.
  double smallest = 1, largest = 0;
  for (std::int64_t epoch = 0; epoch < 100; ++epoch) {
    const auto [across, down] = pixels(*set.train, 0, epoch);
    const double width = (across[16][31] - across[16][0]).abs().item<double>() * 32 / 31;
    const double height = (down[31][16] - down[0][16]).item<double>() * 32 / 31;
    const double share = width * height / 6400;
    smallest = std::min(smallest, share);
    largest = std::max(largest, share);
    CHECK(share > 0.07);
    CHECK(width / height > 0.7);
    CHECK(width / height < 1.45);
    CHECK(across.min().item<double>() > -0.01);
    CHECK(across.max().item<double>() < 99.01);
  }
  CHECK(smallest < 0.2);
  CHECK(largest > 0.5);
  CHECK(get(*set.train, 0, 2, 3).inputs[0].equal(get(*set.train, 0, 2, 3).inputs[0]));
  const DataSet plain = load_set("image-folder", temp.path(), {.wanted = wanted, .augment = false});
  CHECK(get(*plain.train, 0, 2, 3).inputs[0].equal(get(*set.eval, 0, 2).inputs[0]));
}

TEST_CASE("wrong folders of pictures are named", "[api][data]") {
  const TempFolder temp;
  write_folder(temp, "val");
  const auto load = [&] { return load_set("image-folder", temp.path(), {.wanted = eight}); };
  CHECK_NOTHROW(load().train->check());
  SECTION("a damaged picture is found when it is read, and by --check-data") {
    temp.write("train/dog/2.png", text_bytes("\x89PNG, but not really"));
    const DataSet set = load();
    CHECK_NOTHROW(get(*set.train, 0, 3));
    CHECK_THROWS_WITH(get(*set.train, 3, 1), ContainsSubstring("train/dog/2.png: damaged PNG file"));
    CHECK_THROWS_AS(set.train->check(), DataError);
    std::ostringstream out;
    CHECK(check_data(temp.path(), out) == 1);
    CHECK_THAT(out.str(), ContainsSubstring("train/dog/2.png: damaged PNG file"));
  }
  SECTION("a class without pictures") {
    fs::remove(temp.path() / "train/dog/1.jpg");
    CHECK_THROWS_WITH(load(), ContainsSubstring("train/dog: no .jpg, .jpeg or .png file"));
  }
  SECTION("a class that training lacks") {
    temp.write("val/cow/1.png", png(one_colour(2, 2, {1, 1, 1})));
    CHECK_THROWS_AS(load(), DataError);
    CHECK_THROWS_WITH(load(), ContainsSubstring("val/cow: a class that the training part does not have"));
  }
  SECTION("no part to evaluate") {
    fs::remove_all(temp.path() / "val");
    CHECK_THROWS_WITH(load(), ContainsSubstring("neither val/ nor test/ beside train/"));
  }
  SECTION("evaluation pictures without folders") {
    fs::remove_all(temp.path() / "val");
    temp.write("val/1.png", png(one_colour(2, 2, {1, 1, 1})));
    CHECK_THROWS_WITH(load(), ContainsSubstring("val: no folder for each class in it"));
  }
}

TEST_CASE("real JPEG files", "[api][data]") {
  const auto folder = real_folder("image-folder");
  if (folder.empty()) return;
  const DataSet set = load_set("image-folder", folder, {.wanted = {{{{3, 32, 32}, 0}}, {{}, 1000}}});
  CHECK(set.train->class_counts() == std::vector<std::int64_t>(10, 20));
  CHECK(set.eval->class_counts() == std::vector<std::int64_t>(10, 5));
  const Batch batch = get_all(*set.train);
  CHECK(std::abs(batch.inputs[0].mean().item<double>()) < 0.5);
  CHECK(batch.inputs[0].std().item<double>() == Approx(1.1).margin(0.3));
}

}  // namespace
}  // namespace acp
