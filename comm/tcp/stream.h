// One socket of a channel in one direction: frames go out from, and come in to, the user's memory without a
// copy; between processes of one machine long messages go through shared memory instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "comm/tcp/shared_memory.h"
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
  std::uint8_t kind = 0;
  std::uint64_t sequence = 0;  // of the message, from 0, for each pair of ranks and direction
  std::uint64_t length = 0;    // of the whole message

  // `kind`: the payload follows; the sender closes the channel and nothing follows; or one byte follows for
  // each slot of shared memory that holds the next piece of the payload. The receiver answers with a byte for
  // each that it has emptied.
  static constexpr std::uint8_t plain = 0, last = 1, shared = 2;
};

// From so many bytes on, a part goes through shared memory where the connection has some.
constexpr std::size_t worth_sharing = 64 * 1024;

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
  void connect(Fd fd);
  int fd() const { return fd_.get(); }
  bool idle() const { return queue_.empty(); }
  void push(Part part);
  // What poll() shall wait for.
  short events() const;
  // Writes what the kernel takes; calls done(ticket) for each part that it has taken whole.
  template <class Done>
  Moved advance(Done done);
  // Says that nothing follows, unless a part is under way.
  void close();

 private:
  Moved write_some();
  Moved share_some();
  Moved send_frame(const Part& part);
  Moved take_answers();
  static bool shares(const Part& part) { return part.frame.kind == Frame::shared; }

  Fd fd_;
  std::deque<Part> queue_;
  std::size_t position_ = 0;  // in the front part, its frame included
  bool local_ = false;        // the other process is on this machine: they can share memory
  std::optional<SharedSlots> slots_;
  Fd memory_;  // of slots_, until the other side has been given it
  std::size_t next_slot_ = 0, free_slots_ = SharedSlots::count;
  bool filled_ = false;  // the next slot holds its piece, which has not been announced yet
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
  void connect(Fd fd);
  int fd() const { return fd_.get(); }
  bool idle() const { return queue_.empty(); }
  void push(const Part& part) { queue_.push_back(part); }
  // Reads what is there; calls done(ticket) for each part that is whole, mismatch(frame, part) when the frame
  // that has come is not that of the part that is next (the callee throws).
  template <class Done, class Mismatch>
  Moved advance(Done done, Mismatch mismatch);
  // Before poll(): in the middle of a long payload it shall sleep until a good piece of it is there, not wake
  // for every packet, which at 100 Mbit/s costs a fifth of a core. Returns whether it does.
  bool sleep_long();

 private:
  static constexpr std::size_t good_piece = std::size_t{64} * 1024;
  Moved read_some();
  Moved unshare_some();
  void take_memory(msghdr& message);

  Fd fd_;
  bool local_ = false;  // as above
  bool long_ = false;   // poll() waits for a good piece
  std::optional<SharedSlots> slots_;
  std::size_t next_slot_ = 0;
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
    const Moved moved = shares(queue_.front()) ? share_some() : write_some();
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
  const auto verify = [&] {
    if (verified_ != 0 || position_ < sizeof(Frame)) return;
    const Frame& is = frames_[0];
    const Frame& must = queue_.front().frame;
    if (is.magic != must.magic || is.tag != must.tag || is.part != must.part || is.kind == Frame::last ||
        is.sequence != must.sequence || is.length != must.length) {
      mismatch(is, queue_.front());
    }
    verified_ = 1;
  };
  while (!queue_.empty()) {
    const std::size_t whole = sizeof(Frame) + queue_.front().size;
    verify();  // before its payload, of a frame that was read ahead
    Moved moved{0, 0, true};
    if (position_ < whole) {
      moved = verified_ == 1 && frames_[0].kind == Frame::shared ? unshare_some() : read_some();
    }
    total.bytes += moved.bytes;
    total.error = moved.error;
    verify();
    if (position_ < whole) {
      if (moved.all) continue;
      break;
    }
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
