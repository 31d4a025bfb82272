// Files that are there whole or not at all.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace acp {

// Writes `path`.part, brings it to the disk (fsync), renames it to `path` and brings the folder's entry to
// the disk: whatever happens, a reader finds the old file or the new one. DataError names the file and the
// reason.
void write_file(const std::filesystem::path& path, std::string_view bytes);

// The same for content that is made piece by piece: `content` calls what it is given with each.
using Append = std::function<void(std::string_view)>;
void write_file(const std::filesystem::path& path, const std::function<void(const Append&)>& content);

// The whole file; DataError names it and the reason.
std::string read_file(const std::filesystem::path& path);

}  // namespace acp
