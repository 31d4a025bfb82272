// Atomic files by POSIX calls, since streams cannot fsync.
#include "acp/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "comm/error.h"

namespace acp {

namespace {

[[noreturn]] void fail(const char* what, const std::filesystem::path& path) {
  throw DataError("cannot " + std::string(what) + " " + path.string() + ": " + std::strerror(errno));
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return number_; }

  // Closes it and says whether that went well.
  bool close() { return ::close(std::exchange(number_, -1)) == 0; }

 private:
  int number_;
};

void write_all(const Descriptor& file, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(file, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write", path);
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

}  // namespace

void write_file(const std::filesystem::path& path, const std::function<void(const Append&)>& content) {
  std::filesystem::path part = path;
  part += ".part";
  Descriptor file(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (file < 0) fail("write", part);
  try {
    content([&](std::string_view bytes) { write_all(file, bytes, part); });
    if (::fsync(file) != 0 || !file.close()) fail("write", part);
    if (std::rename(part.c_str(), path.c_str()) != 0) fail("rename to", path);
  } catch (...) {
    ::unlink(part.c_str());
    throw;
  }
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const Descriptor entry(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync folders; the rename has happened all the same.
  if (entry >= 0) ::fsync(entry);
}

void write_file(const std::filesystem::path& path, std::string_view bytes) {
  write_file(path, [&](const Append& append) { append(bytes); });
}

std::string read_file(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("read", path);
  std::ostringstream bytes;
  if (file.peek() != std::ifstream::traits_type::eof()) bytes << file.rdbuf();
  if (file.bad() || !bytes) fail("read", path);
  return std::move(bytes).str();
}

}  // namespace acp
