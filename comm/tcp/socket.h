// Sockets of the tcp backend: owned descriptors, addresses, and calls with a deadline.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace acp::tcp {

using Clock = std::chrono::steady_clock;

// Milliseconds until `deadline` for poll(): rounded up, at least 0.
int milliseconds_until(Clock::time_point deadline);

// "Connection refused"
std::string error_text(int code);

// Owns a file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() noexcept;
  void reset() noexcept;

 private:
  int fd_ = -1;
};

// Wakes a thread that blocks in poll(): readable from notify() until drain(). notify() is callable from any
// thread.
class Wake {
 public:
  Wake();
  int fd() const { return fd_.get(); }
  void notify() const noexcept;
  void drain() const noexcept;

 private:
  Fd fd_;
};

// An IPv4 or IPv6 address with its port, or a name among the sockets of this machine.
class Address {
 public:
  Address() = default;
  Address(const sockaddr* address, socklen_t length);
  // From a numeric address; ConfigError when it is none.
  static Address numeric(const std::string& host, int port);
  static Address local_of(int socket);
  // Linux's abstract name of a socket of the domain AF_UNIX; at most 100 characters.
  static Address on_this_machine(const std::string& name);

  std::string host() const;  // "127.0.0.1", "::1"
  int port() const;
  void set_port(int port);
  std::string text() const;  // "127.0.0.1:4711", "[::1]:4711"
  int family() const { return storage_.ss_family; }
  bool is_loopback() const;
  bool same_host(const Address& other) const;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t length() const { return length_; }

 private:
  sockaddr_storage storage_{};
  socklen_t length_ = sizeof(sockaddr_storage);
};

// Addresses of a host name, in the resolver's order; throws std::runtime_error with the resolver's text.
std::vector<Address> resolve(const std::string& host, int port);

// The calls below throw std::system_error; ETIMEDOUT at the deadline, ECANCELED once `interrupt` (a
// descriptor, or -1) is readable, ECONNABORTED when the other side closes.

// A listening, non-blocking socket; port 0 takes a free one. `dual_stack`: an IPv6 socket that takes IPv4
// too.
Fd listen_at(const Address& address, bool dual_stack = false);
// A connected, non-blocking socket, over tcp without Nagle's delay.
Fd connect_to(const Address& address, Clock::time_point deadline, int interrupt = -1);
void write_all(int fd, std::span<const std::byte> data, Clock::time_point deadline, int interrupt = -1);
void read_all(int fd, std::span<std::byte> data, Clock::time_point deadline, int interrupt = -1);

// Non-blocking, no Nagle's delay. Buffer sizes are left to the kernel, whose automatic tuning goes beyond
// what SO_SNDBUF and SO_RCVBUF may ask for under the usual limits.
void configure(int fd);
// The kernel notices within about a minute when the other machine or the way to it is gone.
void keep_alive(int fd);

}  // namespace acp::tcp
