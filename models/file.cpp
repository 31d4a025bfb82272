// Whole files, plain or gzip; zlib's inflate instead of its gzread, which lets garbage after the data pass.
#include "models/file.h"

#include <zlib.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include "comm/error.h"

namespace acp::models {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes read_raw(const std::filesystem::path& path) {
  std::error_code code;
  if (std::filesystem::is_directory(path, code))
    throw DataError(path.string() + ": is a folder, expected a file");
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw DataError(path.string() + ": " + std::strerror(errno));
  Bytes bytes(static_cast<std::size_t>(std::max<std::streamoff>(file.tellg(), 0)));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file) {
    throw DataError(path.string() + ": read error after " + std::to_string(file.gcount()) + " of " +
                    std::to_string(bytes.size()) + " bytes");
  }
  return bytes;
}

bool has_gzip_magic(const std::uint8_t* data, std::size_t size) {
  return size >= 2 && data[0] == 0x1f && data[1] == 0x8b;
}

Bytes unpack(Bytes& packed, const std::string& name) {
  if (!has_gzip_magic(packed.data(), packed.size())) {
    throw DataError(name + ": not gzip data (expected to begin with 1f 8b)");
  }
  z_stream stream{};
  constexpr int gzip_only = 16 + MAX_WBITS;
  if (inflateInit2(&stream, gzip_only) != Z_OK) throw DataError(name + ": zlib cannot start");
  const std::unique_ptr<z_stream, decltype(&inflateEnd)> guard(&stream, inflateEnd);

  Bytes result(std::max<std::size_t>(4 * packed.size(), 1 << 16));
  std::size_t consumed = 0, produced = 0;
  while (true) {
    if (produced == result.size()) result.resize(2 * result.size());
    // zlib counts in 32 bits, so large files go through in portions.
    constexpr std::size_t portion = std::size_t{1} << 30;
    const auto in = static_cast<uInt>(std::min(packed.size() - consumed, portion));
    const auto out = static_cast<uInt>(std::min(result.size() - produced, portion));
    stream.next_in = packed.data() + consumed;
    stream.avail_in = in;
    stream.next_out = result.data() + produced;
    stream.avail_out = out;
    const int code = inflate(&stream, Z_NO_FLUSH);
    consumed += in - stream.avail_in;
    produced += out - stream.avail_out;
    if (code == Z_STREAM_END) {
      if (consumed == packed.size()) break;
      if (!has_gzip_magic(packed.data() + consumed, packed.size() - consumed)) {
        throw DataError(name + ": " + std::to_string(packed.size() - consumed) +
                        " bytes of something else after the end of the gzip data");
      }
      inflateReset(&stream);
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      throw DataError(name + ": corrupt gzip data after " + std::to_string(produced) + " unpacked bytes (" +
                      (stream.msg != nullptr ? stream.msg : "zlib code " + std::to_string(code)) + ")");
    } else if (consumed == packed.size() && stream.avail_out != 0) {
      throw DataError(name + ": truncated gzip data: ends after " + std::to_string(produced) +
                      " unpacked bytes");
    }
  }
  result.resize(produced);
  return result;
}

}  // namespace

bool is_there(const std::filesystem::path& base) {
  auto packed = base;
  packed += ".gz";
  std::error_code code;
  return std::filesystem::exists(base, code) || std::filesystem::exists(packed, code);
}

std::string folder_name(const std::filesystem::path& folder) {
  const auto full = std::filesystem::weakly_canonical(folder);
  std::string name = full.has_filename() ? full.filename() : full.parent_path().filename();
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

std::filesystem::path plain_or_gz(const std::filesystem::path& base) {
  auto packed = base;
  packed += ".gz";
  std::error_code code;
  if (std::filesystem::exists(base, code)) return base;
  if (std::filesystem::exists(packed, code)) return packed;
  throw DataError(base.string() + ": no such file, nor " + packed.filename().string());
}

Bytes read_file(const std::filesystem::path& path) {
  Bytes bytes = read_raw(path);
  if (path.extension() != ".gz" && !has_gzip_magic(bytes.data(), bytes.size())) return bytes;
  return unpack(bytes, path.string());
}

}  // namespace acp::models
