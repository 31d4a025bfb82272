// An anonymous file in memory, mapped by both sides.
#include "comm/tcp/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace acp::tcp {

namespace {

constexpr std::size_t size = SharedSlots::count * SharedSlots::slot_bytes;

[[noreturn]] void throw_errno(const char* what, int code = errno) {
  throw std::system_error(code, std::generic_category(), what);
}

}  // namespace

SharedSlots::SharedSlots(int fd) {
  void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) throw_errno("mmap");
  memory_ = static_cast<std::byte*>(memory);
}

SharedSlots::SharedSlots(SharedSlots&& other) noexcept : memory_(std::exchange(other.memory_, nullptr)) {}

SharedSlots& SharedSlots::operator=(SharedSlots&& other) noexcept {
  std::swap(memory_, other.memory_);
  return *this;
}

SharedSlots::~SharedSlots() {
  if (memory_ != nullptr) ::munmap(memory_, size);
}

std::optional<SharedSlots> SharedSlots::create(Fd& fd) {
  Fd made(::memfd_create("acp", MFD_CLOEXEC));
  if (!made) return std::nullopt;
  // Reserved now: a full memory shall be an error here, not a signal when a slot is written.
  int code = EINTR;
  while (code == EINTR) code = ::posix_fallocate(made.get(), 0, static_cast<off_t>(size));
  if (code != 0) return std::nullopt;
  try {
    SharedSlots slots(made.get());
    fd = std::move(made);
    return slots;
  } catch (const std::system_error&) {
    return std::nullopt;
  }
}

SharedSlots SharedSlots::open(const Fd& fd) {
  struct stat about {};
  if (::fstat(fd.get(), &about) != 0) throw_errno("fstat");
  if (about.st_size < static_cast<off_t>(size)) throw_errno("shared memory", EPROTO);
  return SharedSlots(fd.get());
}

}  // namespace acp::tcp
