// The system calls of a stream: as much as possible with each.
#include "comm/tcp/stream.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace acp::tcp {

namespace {

// A list of memory pieces for one system call, the first `skip` bytes of them left out.
class Pieces {
 public:
  explicit Pieces(std::size_t skip) : skip_(skip) {}
  void add(const void* data, std::size_t size) {
    const std::size_t skipped = std::min(skip_, size);
    skip_ -= skipped;
    if (size == skipped) return;
    // The same structure describes memory to read from and to write to.
    list_[count_++] = {const_cast<std::byte*>(static_cast<const std::byte*>(data)) + skipped, size - skipped};
    bytes_ += size - skipped;
  }
  bool full() const { return count_ + 2 > list_.size(); }
  std::size_t bytes() const { return bytes_; }
  msghdr message() {
    msghdr m{};
    m.msg_iov = list_.data();
    m.msg_iovlen = count_;
    return m;
  }

 private:
  std::array<iovec, 32> list_;
  std::size_t count_ = 0, bytes_ = 0, skip_;
};

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK;
}

}  // namespace

Moved OutStream::write_some() {
  Pieces pieces(position_);
  for (const Part& part : queue_) {
    if (pieces.full()) break;
    pieces.add(&part.frame, sizeof(Frame));
    pieces.add(part.data, part.size);
  }
  const msghdr message = pieces.message();
  for (;;) {
    const auto n = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) return {static_cast<std::size_t>(n), 0, static_cast<std::size_t>(n) == pieces.bytes()};
    if (would_block()) return {};
    if (errno != EINTR) return {0, errno, false};
  }
}

void OutStream::close() {
  if (!fd_ || !queue_.empty()) return;
  Frame frame;
  frame.last = 1;
  ::send(fd_.get(), &frame, sizeof(frame), MSG_NOSIGNAL | MSG_DONTWAIT);
  fd_.reset();
}

Moved InStream::read_some() {
  const Part& part = queue_.front();
  Pieces pieces(position_);
  pieces.add(&frames_[0], sizeof(Frame));
  pieces.add(part.data, part.size);
  const std::size_t own = pieces.bytes();
  pieces.add(reinterpret_cast<std::byte*>(&frames_[1]) + ahead_, sizeof(Frame) - ahead_);
  msghdr message = pieces.message();
  for (;;) {
    const auto n = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
    if (n == 0) return {0, ECONNABORTED, false};
    if (n > 0) {
      const auto bytes = static_cast<std::size_t>(n);
      position_ += std::min(bytes, own);
      ahead_ += bytes - std::min(bytes, own);
      return {bytes, 0, bytes == pieces.bytes()};
    }
    if (would_block()) return {};
    if (errno != EINTR) return {0, errno, false};
  }
}

}  // namespace acp::tcp
