// The system calls of a stream: as much as possible with each.
#include "comm/tcp/stream.h"

#include <poll.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

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

bool is_local(int fd) {
  int domain = 0;
  socklen_t length = sizeof(domain);
  return ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX;
}

// Room for one descriptor beside a message.
union Descriptor {
  cmsghdr header;
  std::array<char, CMSG_SPACE(sizeof(int))> bytes;
};

}  // namespace

void OutStream::connect(Fd fd) {
  fd_ = std::move(fd);
  local_ = is_local(fd_.get());
}

void OutStream::push(Part part) {
  if (local_ && part.size >= worth_sharing) {
    if (!slots_) slots_ = SharedSlots::create(memory_);
    local_ = slots_.has_value();  // without such memory, the connection does
    if (slots_) part.frame.kind = Frame::shared;
  }
  queue_.push_back(part);
}

short OutStream::events() const {
  return !queue_.empty() && shares(queue_.front()) && free_slots_ == 0 ? POLLIN : POLLOUT;
}

Moved OutStream::write_some() {
  Pieces pieces(position_);
  for (const Part& part : queue_) {
    if (pieces.full() || shares(part)) break;
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

// The next step of a part that goes through shared memory: its frame, or one slot.
Moved OutStream::share_some() {
  const Part& part = queue_.front();
  if (position_ < sizeof(Frame)) return send_frame(part);
  if (free_slots_ == 0) {
    const Moved answers = take_answers();
    if (free_slots_ == 0) return answers;
  }
  const std::size_t done = position_ - sizeof(Frame);
  const std::size_t piece = std::min(SharedSlots::slot_bytes, part.size - done);
  if (!filled_) std::memcpy(slots_->slot(next_slot_), part.data + done, piece);
  filled_ = true;
  const char token = 0;
  for (;;) {
    if (::send(fd_.get(), &token, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1) break;
    if (would_block()) return {};
    if (errno != EINTR) return {0, errno, false};
  }
  filled_ = false;
  ++next_slot_;
  --free_slots_;
  return {piece, 0, true};
}

// With the first of them goes the memory.
Moved OutStream::send_frame(const Part& part) {
  Pieces pieces(position_);
  pieces.add(&part.frame, sizeof(Frame));
  msghdr message = pieces.message();
  Descriptor descriptor{};
  if (memory_) {
    message.msg_control = &descriptor;
    message.msg_controllen = sizeof(descriptor);
    cmsghdr* const control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = memory_.get();
    std::memcpy(CMSG_DATA(control), &fd, sizeof(fd));
  }
  for (;;) {
    const auto n = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      memory_.reset();
      return {static_cast<std::size_t>(n), 0, static_cast<std::size_t>(n) == pieces.bytes()};
    }
    if (would_block()) return {};
    // More descriptors are on their way than the system allows a user: the connection carries the parts. None
    // of them has begun.
    if (memory_ && (errno == ETOOMANYREFS || errno == EPERM)) {
      memory_.reset();
      slots_.reset();
      local_ = false;
      for (Part& each : queue_) each.frame.kind = Frame::plain;
      return {0, 0, true};
    }
    if (errno != EINTR) return {0, errno, false};
  }
}

Moved OutStream::take_answers() {
  std::array<char, SharedSlots::count> answers;
  for (;;) {
    const auto n = ::recv(fd_.get(), answers.data(), answers.size(), MSG_DONTWAIT);
    if (n == 0) return {0, ECONNABORTED, false};
    if (n > 0) {
      free_slots_ += static_cast<std::size_t>(n);
      return {};
    }
    if (would_block()) return {};
    if (errno != EINTR) return {0, errno, false};
  }
}

void OutStream::close() {
  if (!fd_ || !queue_.empty()) return;
  Frame frame;
  frame.kind = Frame::last;
  ::send(fd_.get(), &frame, sizeof(frame), MSG_NOSIGNAL | MSG_DONTWAIT);
  fd_.reset();
}

void InStream::connect(Fd fd) {
  fd_ = std::move(fd);
  local_ = is_local(fd_.get());
}

bool InStream::sleep_long() {
  if (local_) return false;
  // Once its frame has been compared: what follows is surely that long.
  const bool wanted = verified_ == 1 && sizeof(Frame) + queue_.front().size - position_ >= good_piece;
  if (wanted == std::exchange(long_, wanted)) return wanted;
  const int bytes = wanted ? static_cast<int>(good_piece) : 1;
  // What refuses it wakes more often, no more.
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
  return wanted;
}

Moved InStream::read_some() {
  const Part& part = queue_.front();
  Pieces pieces(position_);
  pieces.add(&frames_[0], sizeof(Frame));
  // Only a long part's frame tells where its payload is.
  const bool frame_first = local_ && part.size >= worth_sharing && position_ < sizeof(Frame);
  if (!frame_first) pieces.add(part.data, part.size);
  const std::size_t own = pieces.bytes();
  if (!frame_first) pieces.add(reinterpret_cast<std::byte*>(&frames_[1]) + ahead_, sizeof(Frame) - ahead_);
  msghdr message = pieces.message();
  Descriptor descriptor{};
  for (;;) {
    if (local_) {
      message.msg_control = &descriptor;
      message.msg_controllen = sizeof(descriptor);
    }
    const auto n = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n > 0 && local_) take_memory(message);
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

void InStream::take_memory(msghdr& message) {
  if ((message.msg_flags & MSG_CTRUNC) != 0) {  // this process may have no more
    throw std::system_error(EMFILE, std::generic_category(), "descriptor of shared memory");
  }
  const cmsghdr* const control = CMSG_FIRSTHDR(&message);
  if (control == nullptr || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) return;
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(control), sizeof(fd));
  slots_ = SharedSlots::open(Fd(fd));
}

// What has been announced of a part that comes through shared memory.
Moved InStream::unshare_some() {
  if (!slots_) return {0, EPROTO, false};
  const Part& part = queue_.front();
  std::size_t done = position_ - sizeof(Frame);
  const std::size_t slots = (part.size - done + SharedSlots::slot_bytes - 1) / SharedSlots::slot_bytes;
  std::array<char, SharedSlots::count> tokens;
  const auto n = ::recv(fd_.get(), tokens.data(), std::min(slots, tokens.size()), MSG_DONTWAIT);
  if (n == 0) return {0, ECONNABORTED, false};
  if (n < 0) return would_block() || errno == EINTR ? Moved{} : Moved{0, errno, false};
  for (ssize_t i = 0; i < n; ++i) {
    const std::size_t piece = std::min(SharedSlots::slot_bytes, part.size - done);
    std::memcpy(part.data + done, slots_->slot(next_slot_++), piece);
    done += piece;
  }
  // Never waits: there are no more answers on the way than slots. The sender may have closed after its last
  // part.
  [[maybe_unused]] const auto sent =
      ::send(fd_.get(), tokens.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL | MSG_DONTWAIT);
  const std::size_t bytes = done + sizeof(Frame) - position_;
  position_ += bytes;
  return {bytes, 0, true};
}

}  // namespace acp::tcp
