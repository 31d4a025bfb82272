// One socket of a channel in one direction: frames go out from, and come in to, the user's memory without a
// copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "comm/tcp/socket.h"
#include "comm/transport.h"

namespace acp::tcp {

// In front of every part of a message. A large message has one part on each stream, a small one has a single
// part on stream 0; so each stream sees its parts in the order of the messages, and sequence, tag and length
// must be those of the receive that is next.
struct Frame {
  std::uint32_t magic = 0x46504341;
  std::uint16_t tag = 0;
  std::uint8_t part = 0;
  std::uint8_t last = 0;       // the sender closes the channel; nothing follows
  std::uint64_t sequence = 0;  // of the message, from 0, for each pair of ranks and direction
  std::uint64_t length = 0;    // of the whole message
};

// What an attempt to move data has come to.
struct Moved {
  std::size_t bytes = 0;
  int error = 0;     // errno; ECONNABORTED at the end of the connection
  bool all = false;  // as much as was asked for, so there may be more
};

// The sending end. Parts leave in the order of pushing.
class OutStream {
 public:
  struct Part {
    Ticket ticket;
    Frame frame;
    const std::byte* data;
    std::size_t size;
  };
  bool connected() const { return static_cast<bool>(fd_); }
  void connect(Fd fd) { fd_ = std::move(fd); }
  int fd() const { return fd_.get(); }
  bool idle() const { return queue_.empty(); }
  void push(const Part& part) { queue_.push_back(part); }
  // Writes what the kernel takes; calls done(ticket) for each part that it has taken whole.
  template <class Done>
  Moved advance(Done done);
  // Says that nothing follows, unless a part is under way.
  void close();

 private:
  Moved write_some();
  Fd fd_;
  std::deque<Part> queue_;
  std::size_t position_ = 0;  // in the front part, its frame included
};

// The receiving end. Only the frame of the part behind the last posted one is ever read ahead: a payload
// stays in the kernel until its receive is posted.
class InStream {
 public:
  struct Part {
    Ticket ticket;
    Frame frame;  // as it must be
    std::byte* data;
    std::size_t size;
  };
  bool connected() const { return static_cast<bool>(fd_); }
  void connect(Fd fd) { fd_ = std::move(fd); }
  int fd() const { return fd_.get(); }
  bool idle() const { return queue_.empty(); }
  void push(const Part& part) { queue_.push_back(part); }
  // Reads what is there; calls done(ticket) for each part that is whole, mismatch(frame, part) when the frame
  // that has come is not that of the part that is next (the callee throws).
  template <class Done, class Mismatch>
  Moved advance(Done done, Mismatch mismatch);

 private:
  Moved read_some();
  Fd fd_;
  std::deque<Part> queue_;
  Frame frames_[2];           // of the front part, and of the one behind it
  std::size_t position_ = 0;  // in the front part, its frame included
  std::size_t ahead_ = 0;     // bytes of frames_[1]
  std::size_t verified_ = 0;  // 1 once the front part's frame has been compared
};

template <class Done>
Moved OutStream::advance(Done done) {
  Moved total;
  while (!queue_.empty()) {
    const Moved moved = write_some();
    total.bytes += moved.bytes;
    total.error = moved.error;
    std::size_t left = moved.bytes;
    while (!queue_.empty() && position_ + left >= sizeof(Frame) + queue_.front().size) {
      left -= sizeof(Frame) + queue_.front().size - position_;
      position_ = 0;
      const Ticket ticket = queue_.front().ticket;
      queue_.pop_front();
      done(ticket);
    }
    position_ += left;
    if (!moved.all) break;
  }
  return total;
}

template <class Done, class Mismatch>
Moved InStream::advance(Done done, Mismatch mismatch) {
  Moved total;
  while (!queue_.empty()) {
    const std::size_t whole = sizeof(Frame) + queue_.front().size;
    const Moved moved = position_ < whole ? read_some() : Moved{0, 0, true};
    total.bytes += moved.bytes;
    total.error = moved.error;
    if (verified_ == 0 && position_ >= sizeof(Frame)) {
      const Frame& is = frames_[0];
      const Frame& must = queue_.front().frame;
      if (is.magic != must.magic || is.tag != must.tag || is.part != must.part || is.last != 0 ||
          is.sequence != must.sequence || is.length != must.length) {
        mismatch(is, queue_.front());
      }
      verified_ = 1;
    }
    if (position_ < whole) break;
    const Ticket ticket = queue_.front().ticket;
    queue_.pop_front();
    frames_[0] = frames_[1];
    position_ = ahead_;
    ahead_ = verified_ = 0;
    done(ticket);
    if (!moved.all) break;
  }
  return total;
}

}  // namespace acp::tcp
