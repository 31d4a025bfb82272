// IDX files made by tests, plain and gzip.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/temp_folder.h"

namespace acp {

using FileBytes = std::vector<std::uint8_t>;

// Header with this magic number and these dimensions, then `data`.
inline FileBytes idx_bytes(std::uint32_t magic, const std::vector<std::uint32_t>& shape,
                           const FileBytes& data) {
  FileBytes bytes;
  const auto big_endian = [&bytes](std::uint32_t number) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::uint8_t>(number >> shift));
  };
  big_endian(magic);
  for (const std::uint32_t size : shape) big_endian(size);
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

inline FileBytes gzip(const FileBytes& data) {
  z_stream stream{};
  if (deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::runtime_error("deflateInit2");
  }
  FileBytes in = data, out(deflateBound(&stream, data.size()) + 64);
  stream.next_in = in.data();
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  const int code = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  if (code != Z_STREAM_END) throw std::runtime_error("deflate");
  return out;
}

// `n` images of 28x28 (image i is all i) with the labels 0, 1, ..., 9, 0, ...
inline FileBytes idx_images(std::uint32_t n) {
  FileBytes data;
  for (std::uint32_t i = 0; i < n; ++i) data.insert(data.end(), 28 * 28, static_cast<std::uint8_t>(i));
  return idx_bytes(2051, {n, 28, 28}, data);
}

inline FileBytes idx_labels(std::uint32_t n) {
  FileBytes data;
  for (std::uint32_t i = 0; i < n; ++i) data.push_back(static_cast<std::uint8_t>(i % 10));
  return idx_bytes(2049, {n}, data);
}

// The four files of a set in MNIST's form in `folder` (relative; "" or ending in '/'): plain training files,
// gzip test files.
inline void write_idx_set(const TempFolder& temp, const std::string& folder, std::uint32_t train,
                          std::uint32_t test) {
  temp.write(folder + "train-images-idx3-ubyte", idx_images(train));
  temp.write(folder + "train-labels-idx1-ubyte", idx_labels(train));
  temp.write(folder + "t10k-images-idx3-ubyte.gz", gzip(idx_images(test)));
  temp.write(folder + "t10k-labels-idx1-ubyte.gz", gzip(idx_labels(test)));
}

}  // namespace acp
