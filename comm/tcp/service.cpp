// The service thread: takes in connections, keeps strangers out, listens to what the other ranks announce.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "comm/error.h"
#include "comm/log.h"
#include "comm/tcp/control.h"
#include "comm/tcp/group.h"

namespace acp::tcp {

namespace {

using std::to_string;

// A stranger may keep a connection open without a word for this long, and so many of them at a time.
constexpr auto handshake_time = std::chrono::seconds(5);
constexpr std::size_t most_guests = 256;

}  // namespace

void Group::serve() {
  try {
    while (!stopping_) serve_once();
  } catch (...) {
    fail(std::current_exception());
  }
}

void Group::serve_once() {
  std::vector<pollfd> fds;
  std::vector<int> peers;
  auto deadline = Clock::time_point::max();
  fds.push_back({wake_.fd(), POLLIN, 0});
  const bool listens = Clock::now() >= listen_again_;
  fds.push_back({listens ? meeting_.listener.get() : -1, POLLIN, 0});
  fds.push_back({listens ? meeting_.local_listener.get() : -1, POLLIN, 0});
  if (!listens) deadline = listen_again_;
  for (const Guest& guest : guests_) {
    fds.push_back({guest.fd(), POLLIN, 0});
    deadline = std::min(deadline, guest.deadline());
  }
  const std::size_t guests = guests_.size();
  {
    const std::lock_guard lock(mutex_);
    for (int r = 0; r < size_; ++r) {
      const Control& control = *controls_[static_cast<std::size_t>(r)];
      if (!control.open) continue;
      fds.push_back({control.fd.get(), POLLIN, 0});
      peers.push_back(r);
    }
  }
  const int timeout = deadline == Clock::time_point::max() ? -1 : milliseconds_until(deadline);
  if (::poll(fds.data(), fds.size(), timeout) < 0) {
    if (errno == EINTR) return;
    throw CommunicationError("poll: " + error_text(errno));
  }
  if (fds[0].revents != 0) wake_.drain();
  // Announcements first: whoever sees a data connection end looks for its reason here.
  for (std::size_t i = 0; i < peers.size(); ++i) {
    if (fds[3 + guests + i].revents != 0) read_control(peers[i]);
  }
  for (std::size_t i = 0; i < guests; ++i) {
    if (fds[3 + i].revents != 0) admit(guests_[i]);
  }
  const auto now = Clock::now();
  std::erase_if(guests_, [&](const Guest& g) { return g.fd() < 0 || g.deadline() <= now; });
  if (fds[1].revents != 0) accept_all(meeting_.listener.get());
  if (fds[2].revents != 0) accept_all(meeting_.local_listener.get());
}

void Group::accept_all(int listener) {
  for (int i = 0; i < 64; ++i) {
    Fd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        // The connection stays in the queue, so poll() would return at once for ever.
        listen_again_ = Clock::now() + std::chrono::milliseconds(100);
      }
      return;
    }
    if (guests_.size() >= most_guests) {
      // A flood of callers: the oldest of those goes that have not even said hello.
      const auto mute =
          std::find_if(guests_.begin(), guests_.end(), [](const Guest& g) { return !g.said_hello(); });
      guests_.erase(mute != guests_.end() ? mute : guests_.begin());
    }
    guests_.emplace_back(std::move(fd), Clock::now() + handshake_time);
    admit(guests_.back());
  }
}

// Lets a guest go on; afterwards it has been handed to whom it wants, waits for more, or holds no connection.
void Group::admit(Guest& guest) {
  const auto step = guest.advance(static_cast<std::uint32_t>(size_), static_cast<std::uint32_t>(rank_),
                                  static_cast<std::uint32_t>(streams_), meeting_.secret);
  if (step == Guest::Step::more) return;
  Fd fd = guest.take();
  if (step == Guest::Step::refused) {
    log_debug("[tcp] rank " + to_string(rank_) + ": dropped a connection that is not of this group");
    return;
  }
  const Hello& hello = guest.hello();
  const int peer = static_cast<int>(hello.from);
  if (hello.channel == control_channel) {
    install(peer, std::move(fd));
    return;
  }
  configure(fd.get());
  std::shared_ptr<Inbox> inbox;
  {
    const std::lock_guard lock(mutex_);
    // A channel of the future waits for this rank to open it; one of the past is closed, and so is this.
    auto found = inboxes_.find(hello.channel);
    if (found == inboxes_.end() && hello.channel >= next_channel_) {
      found = inboxes_.emplace(hello.channel, std::make_shared<Inbox>()).first;
    }
    if (found == inboxes_.end()) return;
    inbox = found->second;
  }
  {
    const std::lock_guard lock(inbox->mutex);
    inbox->arrivals.push_back({peer, static_cast<int>(hello.stream), std::move(fd)});
  }
  inbox->wake.notify();
}

void Group::install(int peer, Fd fd) {
  configure(fd.get());
  keep_alive(fd.get());
  Control& control = *controls_[static_cast<std::size_t>(peer)];
  const std::scoped_lock lock(control.sending, mutex_);
  if (control.state != State::absent) return;
  control.fd = std::move(fd);
  control.state = State::present;
  control.open = true;
  changed_.notify_all();
  wake_.notify();
}

void Group::read_control(int peer) {
  Control& control = *controls_[static_cast<std::size_t>(peer)];
  char buffer[4096];
  for (;;) {
    const auto n = ::recv(control.fd.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (n <= 0) {
      lose(peer, n == 0 ? "its process has ended" : error_text(errno));
      return;
    }
    control.received.append(buffer, static_cast<std::size_t>(n));
    Control::Header header;
    while (control.received.size() >= sizeof(header)) {
      std::memcpy(&header, control.received.data(), sizeof(header));
      if (header.magic != Control::Header().magic || header.length > Control::longest_text) {
        lose(peer, "it speaks another language");
        return;
      }
      if (control.received.size() < sizeof(header) + header.length) break;
      handle(peer, header.type, header.a, header.b, control.received.substr(sizeof(header), header.length));
      control.received.erase(0, sizeof(header) + header.length);
    }
  }
}

void Group::handle(int peer, int type, int a, int b, const std::string& text) {
  switch (type) {
    case Control::farewell: {
      std::optional<Store> store;
      {
        const std::lock_guard lock(mutex_);
        controls_[static_cast<std::size_t>(peer)]->state = State::left;
        changed_.notify_all();
        // The group begins to end: whoever comes to the store from now on means another one.
        store = std::exchange(meeting_.store, std::nullopt);
        for (auto& [number, inbox] : inboxes_) inbox->wake.notify();
      }
      break;
    }
    case Control::abort: {
      const std::string told = a == peer ? "rank " + to_string(peer) + " failed: " + text
                                         : text + " (reported by rank " + to_string(peer) + ")";
      // Passed on: this rank may end before the news from its origin has reached the others, who would then
      // blame this one.
      if (fail_quietly({Failure::Kind::peer, a, told})) {
        for (int r = 0; r < size_; ++r) {
          if (r != peer && r != a) tell(r, Control::abort, a, 0, a == peer ? told : text);
        }
      }
      break;
    }
    case Control::question: {
      int waiting_for = -2;
      {
        const std::lock_guard lock(mutex_);
        const auto channel = static_cast<std::uint32_t>(a);
        const auto found = inboxes_.find(channel);
        if (channel < next_channel_)
          waiting_for = found == inboxes_.end() ? -1 : found->second->waiting_for.load();
      }
      tell(peer, Control::answer, a, waiting_for, "");
      break;
    }
    case Control::answer: {
      const std::lock_guard lock(mutex_);
      answers_[{peer, static_cast<std::uint32_t>(a)}] = b;
      changed_.notify_all();
      break;
    }
    default:
      break;
  }
}

void Group::lose(int peer, const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    State& state = controls_[static_cast<std::size_t>(peer)]->state;
    controls_[static_cast<std::size_t>(peer)]->open = false;
    if (state == State::left) return;
    state = State::gone;
    changed_.notify_all();
  }
  fail(Failure{Failure::Kind::peer, peer,
               "peer " + to_string(peer) + " closed the connection without a farewell: " + why});
}

void Group::tell(int peer, int type, int a, int b, const std::string& text) noexcept {
  Control& control = *controls_[static_cast<std::size_t>(peer)];
  try {
    Control::Header header;
    header.type = type;
    header.a = a;
    header.b = b;
    header.length = std::min(static_cast<std::uint32_t>(text.size()), Control::longest_text);
    std::string message(reinterpret_cast<const char*>(&header), sizeof(header));
    message.append(text, 0, header.length);
    const std::lock_guard lock(control.sending);
    if (!control.fd) return;
    const auto n = ::send(control.fd.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    // The buffer is practically empty, so it takes all, unless the peer has not read for very long.
    if (n >= 0 && n < static_cast<ssize_t>(message.size())) ::shutdown(control.fd.get(), SHUT_RDWR);
  } catch (const std::exception&) {  // no memory: the peer will see the connection end
  }
}

}  // namespace acp::tcp
