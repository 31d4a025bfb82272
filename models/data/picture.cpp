// JPEG and PNG files as pixels, by libjpeg and libpng.
#include "models/data/picture.h"

#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <memory>
#include <string>

// clang-format off: each needs the one before
#include <jerror.h>
#include <jpeglib.h>
// clang-format on

#include "comm/error.h"
#include "models/file.h"

namespace acp::models {
namespace {

using Bytes = std::vector<std::uint8_t>;

// A damaged header may ask for any size.
constexpr std::int64_t most_pixels = 400'000'000;
constexpr const char* too_large = "more pixels than any picture has";

// What libjpeg hands to its callbacks. It is C: an error jumps out of it, over frames that own nothing.
struct JpegErrors {
  jpeg_error_mgr manager{};
  std::jmp_buf back{};
  std::array<char, JMSG_LENGTH_MAX> message{};
};

JpegErrors& errors_of(j_common_ptr info) {
  return *static_cast<JpegErrors*>(info->client_data);
}

[[noreturn]] void give_up(j_common_ptr info) {
  JpegErrors& errors = errors_of(info);
  errors.manager.format_message(info, errors.message.data());
  std::longjmp(errors.back, 1);
}

// libjpeg goes on after damage with grey for what is lost. Stray bytes between the parts of a file lose
// nothing.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_HIT_MARKER:
    case JWRN_JPEG_EOF:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
      give_up(info);
    default:
      break;
  }
}

// CMYK as Adobe's programs write it, inverted: 255 is no ink.
void to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    for (int c = 0; c < 3; ++c)
      rgb[3 * i + c] = static_cast<std::uint8_t>(cmyk[4 * i + c] * cmyk[4 * i + 3] / 255);
  }
}

void decompress(jpeg_decompress_struct& info, const Bytes& file, Picture& picture, Bytes& row) {
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, file.data(), static_cast<unsigned long>(file.size()));
  jpeg_read_header(&info, TRUE);
  const bool cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  picture.height = info.image_height;
  picture.width = info.image_width;
  if (picture.height * picture.width > most_pixels) return;
  jpeg_start_decompress(&info);
  const std::int64_t stride = 3 * picture.width;
  picture.pixels.resize(static_cast<std::size_t>(picture.height * stride));
  row.resize(static_cast<std::size_t>(4 * picture.width));
  while (info.output_scanline < info.output_height) {
    std::uint8_t* out = picture.pixels.data() + info.output_scanline * stride;
    JSAMPROW to = cmyk ? row.data() : out;
    jpeg_read_scanlines(&info, &to, 1);
    if (cmyk) to_rgb(row.data(), out, picture.width);
  }
  jpeg_finish_decompress(&info);
}

// False where an error jumped back; its text is in info's JpegErrors.
bool run_decompress(jpeg_decompress_struct& info, const Bytes& file, Picture& picture, Bytes& row) {
  if (setjmp(static_cast<JpegErrors*>(info.client_data)->back) != 0) return false;
  decompress(info, file, picture, row);
  return true;
}

Picture decode_jpeg(const Bytes& file, const std::string& name) {
  JpegErrors errors;
  jpeg_decompress_struct info{};
  info.err = jpeg_std_error(&errors.manager);
  info.client_data = &errors;
  errors.manager.error_exit = give_up;
  errors.manager.emit_message = on_message;
  const std::unique_ptr<jpeg_decompress_struct, decltype(&jpeg_destroy_decompress)> guard(
      &info, jpeg_destroy_decompress);
  Picture picture;
  Bytes row;
  if (!run_decompress(info, file, picture, row))
    throw DataError(name + ": damaged JPEG file: " + errors.message.data());
  if (picture.pixels.empty()) throw DataError(name + ": damaged JPEG file: " + too_large);
  return picture;
}

Picture decode_png(const Bytes& file, const std::string& name) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, decltype(&png_image_free)> guard(&image, png_image_free);
  const auto check = [&](bool good) {
    if (!good) throw DataError(name + ": damaged PNG file: " + image.message);
  };
  check(png_image_begin_read_from_memory(&image, file.data(), file.size()) != 0);
  image.format = PNG_FORMAT_RGB;
  Picture picture{image.height, image.width, {}};
  if (picture.height * picture.width > most_pixels)
    throw DataError(name + ": damaged PNG file: " + too_large);
  picture.pixels.resize(PNG_IMAGE_SIZE(image));
  const png_color black{};
  check(png_image_finish_read(&image, &black, picture.pixels.data(), 0, nullptr) != 0);
  return picture;
}

}  // namespace

Picture read_picture(const std::filesystem::path& path) {
  const Bytes file = read_file(path);
  const auto begins_with = [&file](std::initializer_list<std::uint8_t> magic) {
    return file.size() >= magic.size() && std::equal(magic.begin(), magic.end(), file.begin());
  };
  if (begins_with({0xff, 0xd8, 0xff})) return decode_jpeg(file, path.string());
  if (begins_with({0x89, 'P', 'N', 'G'})) return decode_png(file, path.string());
  throw DataError(path.string() + ": " + (file.empty() ? "empty" : "neither JPEG nor PNG") +
                  ", expected a picture (JPEG begins with ff d8 ff, PNG with 89 50 4e 47)");
}

}  // namespace acp::models
