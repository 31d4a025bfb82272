// IDX, the file format of MNIST and its relatives: big-endian header (magic 2048 + dimensions, then each
// dimension as 32 bits), then bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace acp::models {

struct Idx {
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> bytes;  // as many as the product of `shape`
};

// Reads an IDX file of unsigned bytes with so many dimensions (1: labels, magic 2049; 3: images, magic 2051),
// plain or gzip. DataError names the file, what was expected and what was found.
Idx read_idx(const std::filesystem::path& path, int dimensions);

}  // namespace acp::models
