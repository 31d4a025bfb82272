// Challenge and response; the proofs cover who calls whom for what, so that none fits another connection.
#include "comm/tcp/handshake.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <type_traits>

namespace acp::tcp {

namespace {

constexpr std::size_t nonce_size = std::tuple_size_v<decltype(Hello::nonce)>;
constexpr std::size_t proof_size = std::tuple_size_v<Digest>;
static_assert(std::is_trivially_copyable_v<Hello> && sizeof(Hello) == 8 + 6 * 4 + nonce_size);

Digest proof(const char* side, const Hello& hello, const std::string& nonce, const std::string& secret) {
  std::string message = side;
  message.append(reinterpret_cast<const char*>(&hello), sizeof(hello));
  return hmac_sha256(secret, message + nonce);
}

std::span<const std::byte> bytes_of(const void* data, std::size_t size) {
  return {static_cast<const std::byte*>(data), size};
}

}  // namespace

void introduce(int fd, Hello hello, const std::string& secret, Clock::time_point deadline, int interrupt) {
  const std::string mine = random_bytes(nonce_size);
  std::copy(mine.begin(), mine.end(), hello.nonce.begin());
  write_all(fd, bytes_of(&hello, sizeof(hello)), deadline, interrupt);
  std::string nonce(nonce_size, '\0');
  read_all(fd, std::as_writable_bytes(std::span(nonce)), deadline, interrupt);
  const Digest ours = proof("caller", hello, nonce, secret);
  write_all(fd, bytes_of(ours.data(), ours.size()), deadline, interrupt);
  Digest theirs{};
  read_all(fd, std::as_writable_bytes(std::span(theirs)), deadline, interrupt);
  if (!equal(theirs, proof("callee", hello, nonce, secret))) {
    throw std::system_error(EACCES, std::generic_category(), "handshake");
  }
}

Guest::Step Guest::advance(std::uint32_t world, std::uint32_t rank, std::uint32_t streams,
                           const std::string& secret) {
  for (;;) {
    const std::size_t wanted = nonce_.empty() ? sizeof(Hello) : proof_size;
    char buffer[sizeof(Hello)];
    const auto n = ::recv(fd_.get(), buffer, wanted - received_.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Step::more;
    if (n <= 0) return Step::refused;
    received_.append(buffer, static_cast<std::size_t>(n));
    const std::size_t shown = std::min(received_.size(), hello_.magic.size());
    if (nonce_.empty() && std::memcmp(received_.data(), Hello().magic.data(), shown) != 0)
      return Step::refused;
    if (received_.size() < wanted) continue;

    if (nonce_.empty()) {
      std::memcpy(&hello_, received_.data(), sizeof(hello_));
      received_.clear();
      if (check_hello(world, rank, streams) == Step::refused) return Step::refused;
      continue;
    }
    Digest theirs{};
    std::memcpy(theirs.data(), received_.data(), theirs.size());
    if (!equal(theirs, proof("caller", hello_, nonce_, secret))) return Step::refused;
    const Digest ours = proof("callee", hello_, nonce_, secret);
    // The buffer of a fresh connection takes these few bytes at once.
    const auto sent = ::send(fd_.get(), ours.data(), ours.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent == static_cast<ssize_t>(ours.size()) ? Step::admitted : Step::refused;
  }
}

Guest::Step Guest::check_hello(std::uint32_t world, std::uint32_t rank, std::uint32_t streams) {
  if (hello_.world != world || hello_.to != rank || hello_.from >= world || hello_.from == rank ||
      hello_.streams != streams || hello_.stream >= streams) {
    return Step::refused;
  }
  nonce_ = random_bytes(nonce_size);
  const auto sent = ::send(fd_.get(), nonce_.data(), nonce_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent == static_cast<ssize_t>(nonce_.size()) ? Step::more : Step::refused;
}

}  // namespace acp::tcp
