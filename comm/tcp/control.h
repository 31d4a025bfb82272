// The control connection between two ranks, and the few messages that travel on it.
#pragma once

#include "comm/tcp/group.h"

namespace acp::tcp {

// Written by any thread (one at a time, under `sending`), read by the service thread alone. The descriptor is
// closed only with the group, so that nobody ever writes to a number that means something else by then.
struct Group::Control {
  enum Type : int {
    farewell = 1,  // this rank has destroyed its last channel
    abort,         // a: the rank to blame, text: why
    question,      // a: channel
    answer         // a: channel, b: whom its thread waits for, -1 nobody, -2 no such channel
  };
  struct Header {
    std::uint32_t magic = 0x41435043;
    std::int32_t type = 0, a = 0, b = 0;
    std::uint32_t length = 0;  // of the text that follows
  };
  static constexpr std::uint32_t longest_text = 16 * 1024;

  std::mutex sending;
  Fd fd;                        // set once, under `sending`
  State state = State::absent;  // under the group's mutex, as is `open`
  bool open = false;            // has not ended yet
  std::string received;         // of the service thread
};

}  // namespace acp::tcp
