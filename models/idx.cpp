// IDX, the file format of MNIST and its relatives.
#include "models/idx.h"

#include <string>

#include "comm/error.h"
#include "models/file.h"

namespace acp::models {

Idx read_idx(const std::filesystem::path& path, int dimensions) {
  const std::string name = path.string();
  std::vector<std::uint8_t> file = read_file(path);
  const auto header = static_cast<std::size_t>(4 + 4 * dimensions);
  if (file.size() < header) {
    throw DataError(name + ": " + std::to_string(file.size()) + " bytes, expected an IDX header of " +
                    std::to_string(header));
  }
  const auto big_endian = [&file](std::size_t at) {
    return std::int64_t{file[at]} << 24 | file[at + 1] << 16 | file[at + 2] << 8 | file[at + 3];
  };
  const std::int64_t magic = big_endian(0), expected_magic = 0x0800 + dimensions;
  if (magic != expected_magic) {
    throw DataError(name + ": magic number " + std::to_string(magic) + ", expected " +
                    std::to_string(expected_magic) + " (IDX, unsigned bytes, " + std::to_string(dimensions) +
                    " dimensions)");
  }

  Idx result;
  std::string text;
  __extension__ unsigned __int128 expected =
      1;  // three 32-bit numbers from a corrupt header do not fit 64 bits
  for (int d = 0; d < dimensions; ++d) {
    result.shape.push_back(big_endian(4 + 4 * static_cast<std::size_t>(d)));
    expected *= static_cast<std::uint64_t>(result.shape.back());
    text += (d == 0 ? "" : " x ") + std::to_string(result.shape.back());
  }
  const std::size_t found = file.size() - header;
  if (expected != found) {
    throw DataError(name + ": " + std::to_string(found) + " bytes of data, expected " + text +
                    " as the header says (" + (found < expected ? "truncated" : "something follows") + ")");
  }
  file.erase(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(header));
  result.bytes = std::move(file);
  return result;
}

}  // namespace acp::models
