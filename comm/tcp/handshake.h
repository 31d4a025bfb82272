// How two ranks make sure of each other before a connection counts: challenge and response over the shared
// secret.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "comm/tcp/sha256.h"
#include "comm/tcp/socket.h"

namespace acp::tcp {

// The pseudo-channel of the connection over which a pair of ranks speaks about aborts and farewells.
constexpr std::uint32_t control_channel = 0xffffffff;

// The first bytes of a connection: who calls whom, and what for. The nonce keeps a recorded talk from being
// of use.
struct Hello {
  std::array<char, 8> magic = {'A', 'C', 'P', '-', 'T', 'C', 'P', '1'};
  std::uint32_t world = 0, from = 0, to = 0;
  std::uint32_t channel = 0, stream = 0;
  std::uint32_t streams = 0;  // per direction; both sides must cut messages alike
  std::array<char, 16> nonce{};
};

// The caller's side, blocking: Hello ->, <- nonce, proof ->, <- proof. Neither proof is given to someone who
// only listens or only calls: the callee shows its own last. Throws std::system_error as the functions of
// socket.h do; EACCES when the other side does not know the secret.
void introduce(int fd, Hello hello, const std::string& secret, Clock::time_point deadline, int interrupt);

// The callee's side, never blocking: one for each connection that has been accepted and not yet admitted.
class Guest {
 public:
  Guest(Fd fd, Clock::time_point deadline) : fd_(std::move(fd)), deadline_(deadline) {}

  enum class Step { more, admitted, refused };
  // Takes what has arrived. A first byte that no Hello has refuses at once, and so do another world and a
  // callee who is not this rank.
  Step advance(std::uint32_t world, std::uint32_t rank, std::uint32_t streams, const std::string& secret);

  int fd() const { return fd_.get(); }
  Clock::time_point deadline() const { return deadline_; }
  bool said_hello() const { return !nonce_.empty(); }
  const Hello& hello() const { return hello_; }
  Fd take() { return std::move(fd_); }

 private:
  Step check_hello(std::uint32_t world, std::uint32_t rank, std::uint32_t streams);

  Fd fd_;
  Clock::time_point deadline_;
  Hello hello_;
  std::string received_;
  std::string nonce_;  // ours; empty until the Hello is complete
};

}  // namespace acp::tcp
