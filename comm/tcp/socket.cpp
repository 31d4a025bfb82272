// Descriptors, addresses and calls with a deadline.
#include "comm/tcp/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "comm/error.h"

namespace acp::tcp {

namespace {

[[noreturn]] void throw_errno(const char* what, int code = errno) {
  throw std::system_error(code, std::generic_category(), what);
}

// Blocks until `fd` is ready for `events`.
void await(int fd, short events, Clock::time_point deadline, int interrupt) {
  for (;;) {
    pollfd fds[2] = {{fd, events, 0}, {interrupt, POLLIN, 0}};
    const int n = ::poll(fds, interrupt >= 0 ? 2 : 1, milliseconds_until(deadline));
    if (n < 0 && errno != EINTR) throw_errno("poll");
    if (n > 0 && interrupt >= 0 && fds[1].revents != 0) throw_errno("interrupted", ECANCELED);
    if (n > 0 && fds[0].revents != 0) return;
    if (n == 0 && Clock::now() >= deadline) throw_errno("poll", ETIMEDOUT);
  }
}

void set_option(int fd, int level, int name, int value) {
  ::setsockopt(fd, level, name, &value, sizeof(value));
}

}  // namespace

int milliseconds_until(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<decltype(left)>(left, 0, 1'000'000'000));
}

std::string error_text(int code) {
  return std::generic_category().message(code);
}

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

int Fd::release() noexcept {
  return std::exchange(fd_, -1);
}

void Fd::reset() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Wake::Wake() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!fd_) throw_errno("eventfd");
}

void Wake::notify() const noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(fd_.get(), &one, sizeof(one));
}

void Wake::drain() const noexcept {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto n = ::read(fd_.get(), &count, sizeof(count));
}

Address::Address(const sockaddr* address, socklen_t length) : length_(length) {
  std::memcpy(&storage_, address, length);
}

Address Address::numeric(const std::string& host, int port) {
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(static_cast<std::uint16_t>(port));
  if (::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
    return {reinterpret_cast<const sockaddr*>(&v4), sizeof(v4)};
  }
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(static_cast<std::uint16_t>(port));
  if (::inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1) {
    return {reinterpret_cast<const sockaddr*>(&v6), sizeof(v6)};
  }
  throw ConfigError("\"" + host + "\" is neither an IPv4 nor an IPv6 address");
}

Address Address::local_of(int socket) {
  Address address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address.storage_), &address.length_) != 0) {
    throw_errno("getsockname");
  }
  return address;
}

Address Address::on_this_machine(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t length = std::min(name.size(), sizeof(address.sun_path) - 1);
  std::copy_n(name.begin(), length, address.sun_path + 1);  // the first byte is 0: no file
  return {reinterpret_cast<const sockaddr*>(&address),
          static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length)};
}

std::string Address::host() const {
  char text[INET6_ADDRSTRLEN] = "";
  const void* raw =
      family() == AF_INET6
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr)
          : static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(&storage_)->sin_addr);
  ::inet_ntop(family(), raw, text, sizeof(text));
  return text;
}

int Address::port() const {
  return ntohs(family() == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_port
                                    : reinterpret_cast<const sockaddr_in*>(&storage_)->sin_port);
}

void Address::set_port(int port) {
  auto& field = family() == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&storage_)->sin6_port
                                     : reinterpret_cast<sockaddr_in*>(&storage_)->sin_port;
  field = htons(static_cast<std::uint16_t>(port));
}

std::string Address::text() const {
  if (family() == AF_UNIX) return "a socket of this machine";
  const std::string name = family() == AF_INET6 ? "[" + host() + "]" : host();
  return name + ":" + std::to_string(port());
}

bool Address::is_loopback() const {
  const std::string name = host();
  return name == "::1" || name.rfind("127.", 0) == 0 || name.rfind("::ffff:127.", 0) == 0;
}

bool Address::same_host(const Address& other) const {
  return family() == other.family() && host() == other.host();
}

std::vector<Address> resolve(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (code != 0) throw std::runtime_error(code == EAI_SYSTEM ? error_text(errno) : ::gai_strerror(code));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
  std::vector<Address> addresses;
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    if (a->ai_family == AF_INET || a->ai_family == AF_INET6)
      addresses.emplace_back(a->ai_addr, a->ai_addrlen);
  }
  if (addresses.empty()) throw std::runtime_error("it has neither an IPv4 nor an IPv6 address");
  return addresses;
}

Fd listen_at(const Address& address, bool dual_stack) {
  Fd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) throw_errno("socket");
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (address.family() == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, dual_stack ? 0 : 1);
  if (::bind(fd.get(), address.get(), address.length()) != 0) throw_errno("bind");
  if (::listen(fd.get(), SOMAXCONN) != 0) throw_errno("listen");
  return fd;
}

Fd connect_to(const Address& address, Clock::time_point deadline, int interrupt) {
  Fd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) throw_errno("socket");
  configure(fd.get());
  while (::connect(fd.get(), address.get(), address.length()) != 0) {
    if (errno == EINPROGRESS || errno == EINTR) {
      await(fd.get(), POLLOUT, deadline, interrupt);
      int code = 0;
      socklen_t length = sizeof(code);
      if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &code, &length) != 0) throw_errno("getsockopt");
      if (code != 0) throw_errno("connect", code);
      return fd;
    }
    // Of a socket of this machine: its queue of callers is full, and poll() does not tell when it no longer
    // is.
    if (errno != EAGAIN || address.family() != AF_UNIX) throw_errno("connect");
    if (Clock::now() >= deadline) throw_errno("connect", ETIMEDOUT);
    pollfd pause{interrupt, POLLIN, 0};
    if (::poll(&pause, 1, 1) > 0) throw_errno("interrupted", ECANCELED);
  }
  return fd;
}

void write_all(int fd, std::span<const std::byte> data, Clock::time_point deadline, int interrupt) {
  while (!data.empty()) {
    const auto n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      data = data.subspan(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      await(fd, POLLOUT, deadline, interrupt);
    } else if (errno != EINTR) {
      throw_errno("send");
    }
  }
}

void read_all(int fd, std::span<std::byte> data, Clock::time_point deadline, int interrupt) {
  while (!data.empty()) {
    const auto n = ::recv(fd, data.data(), data.size(), MSG_DONTWAIT);
    if (n > 0) {
      data = data.subspan(static_cast<std::size_t>(n));
    } else if (n == 0) {
      throw_errno("recv", ECONNABORTED);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      await(fd, POLLIN, deadline, interrupt);
    } else if (errno != EINTR) {
      throw_errno("recv");
    }
  }
}

void configure(int fd) {
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

void keep_alive(int fd) {
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

}  // namespace acp::tcp
