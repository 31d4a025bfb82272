// Whole files, plain or gzip.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace acp::models {

// Whether there is a file or folder `base`, or `base`.gz.
bool is_there(const std::filesystem::path& base);

// The folder's own name in small letters.
std::string folder_name(const std::filesystem::path& folder);

// `base`, or else `base`.gz; DataError names both if neither exists.
std::filesystem::path plain_or_gz(const std::filesystem::path& base);

// The file's bytes; gzip data (known by their first bytes, or by the name's ".gz") unpacked, several members
// joined. DataError: cannot be read, not gzip, truncated, fails its check sum, or followed by something else.
std::vector<std::uint8_t> read_file(const std::filesystem::path& path);

}  // namespace acp::models
