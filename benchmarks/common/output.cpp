// See output.h.
#include "benchmarks/common/output.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "comm/error.h"

namespace acp::programs {

namespace {

// Open MPI's processes write into a terminal of its own making wherever mpirun's output goes: mpirun, the
// parent of those on its host, shows where that is.
bool ends_on_terminal(int descriptor) {
  if (isatty(descriptor) != 1) return false;
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr) return true;
  std::error_code error;
  const auto target =
      std::filesystem::read_symlink(fmt::format("/proc/{}/fd/{}", getppid(), descriptor), error).string();
  return !error && (target.starts_with("/dev/pts/") || target.starts_with("/dev/tty"));
}

}  // namespace

Console::Console(bool silent, bool json_on_stdout)
    : stream_(json_on_stdout ? stderr : stdout),
      silent_(silent),
      terminal_(!silent && ends_on_terminal(fileno(stream_))) {}

Console::~Console() {
  if (pending_) std::fputs("\r\033[K", stream_);
  std::fflush(stream_);
}

void Console::line(const std::string& text) {
  if (silent_) return;
  std::fprintf(stream_, "%s%s\n", pending_ ? "\r\033[K" : "", text.c_str());
  std::fflush(stream_);
  pending_ = false;
}

void Console::progress(const std::string& text) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  std::fprintf(stream_, "\r%s\033[K", text.c_str());
  std::fflush(stream_);
  pending_ = true;
}

JsonLines::JsonLines(const std::string& option, const std::string& path) : path_(path) {
  if (path.empty()) return;
  if (path == "-") {
    stream_ = stdout;
    return;
  }
  file_.reset(std::fopen(path.c_str(), "a"));
  if (!file_)
    throw ConfigError(fmt::format("--{} {}: cannot be written: {}", option, path, std::strerror(errno)));
  stream_ = file_.get();
}

void JsonLines::write(const nlohmann::json& object) {
  if (stream_ == nullptr) return;
  const auto text = object.dump() + "\n";
  if (std::fwrite(text.data(), 1, text.size(), stream_) != text.size() || std::fflush(stream_) != 0) {
    throw DataError(fmt::format("{}: cannot be written: {}", path_, std::strerror(errno)));
  }
}

void check_writable_folder(const std::string& option, const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  std::string probe = path + "/.writable-XXXXXX";
  const int file = ::mkstemp(probe.data());
  if (file < 0) {
    throw ConfigError(fmt::format("--{} {}: cannot be written: {}", option, path,
                                  error ? error.message() : std::strerror(errno)));
  }
  ::close(file);
  ::unlink(probe.c_str());
}

void check_writable(const std::string& option, const std::string& path) {
  if (path != "-") JsonLines(option, path);
}

}  // namespace acp::programs
