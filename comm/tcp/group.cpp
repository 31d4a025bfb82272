// Control connections, failure, and the diagnosis of who is missing. The service thread is in service.cpp.
#include "comm/tcp/group.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/tcp/control.h"

namespace acp::tcp {

namespace {

using std::to_string;

// What ask() may return beside a rank.
constexpr int not_waiting = -1;
constexpr int never_opened = -2;
constexpr int no_answer = -3;

}  // namespace

Group::Group(const Endpoint& endpoint, Meeting meeting)
    : rank_(endpoint.rank), size_(endpoint.size), streams_(endpoint.streams), meeting_(std::move(meeting)) {
  for (int r = 0; r < size_; ++r) controls_.push_back(std::make_unique<Control>());
  service_ = std::jthread([this] { serve(); });
}

Group::~Group() {
  if (!failed()) {
    for (int r = 0; r < size_; ++r) tell(r, Control::farewell, 0, 0, "");
  }
  stopping_ = true;
  wake_.notify();
  service_.join();
}

void Group::connect_controls() {
  const auto deadline = Clock::now() + wait_timeout();
  // Each pair once: the higher rank calls, and all listen already.
  for (int r = 0; r < rank_; ++r) install(r, dial(r, control_channel, 0));
  std::unique_lock lock(mutex_);
  const auto absent = [&] {
    return std::find_if(controls_.begin() + rank_ + 1, controls_.end(),
                        [](const auto& c) { return c->state == State::absent; }) -
           controls_.begin();
  };
  changed_.wait_until(lock, deadline, [&] { return reason_ || absent() == size_; });
  if (reason_) reason_->raise();
  const int missing = static_cast<int>(absent());
  if (missing < size_) {
    throw PeerError(missing, "rank " + to_string(missing) + " did not connect to rank " + to_string(rank_) +
                                 " at " + meeting_.own.address.text() + " within " + timeout_text() +
                                 ": a firewall, or the wrong network (ACP_INTERFACE)?");
  }
}

Group::Opened Group::open_channel() {
  const std::lock_guard lock(mutex_);
  const std::uint32_t number = next_channel_++;
  auto& inbox = inboxes_[number];
  if (!inbox) inbox = std::make_shared<Inbox>();
  return {number, inbox};
}

void Group::close_channel(std::uint32_t number) {
  const std::lock_guard lock(mutex_);
  inboxes_.erase(number);
}

// On the same machine without the network, where that is possible.
Fd Group::call(int peer, Clock::time_point deadline) {
  if (const auto& near = meeting_.neighbours[static_cast<std::size_t>(peer)]) {
    try {
      return connect_to(*near, deadline, failure_fd());
    } catch (const std::system_error& e) {
      const int code = e.code().value();
      if (code == ECANCELED || code == ETIMEDOUT) throw;
    }
  }
  return connect_to(meeting_.members[static_cast<std::size_t>(peer)], deadline, failure_fd());
}

Fd Group::dial(int peer, std::uint32_t channel, std::uint32_t stream) {
  const Address& address = meeting_.members[static_cast<std::size_t>(peer)];
  const std::string who = "rank " + to_string(peer) + " at " + address.text();
  Hello hello;
  hello.world = static_cast<std::uint32_t>(size_);
  hello.from = static_cast<std::uint32_t>(rank_);
  hello.to = static_cast<std::uint32_t>(peer);
  hello.channel = channel;
  hello.stream = stream;
  hello.streams = static_cast<std::uint32_t>(streams_);
  const auto deadline = Clock::now() + wait_timeout();
  for (int attempt = 1;; ++attempt) {
    try {
      Fd fd = call(peer, deadline);
      introduce(fd.get(), hello, meeting_.secret, deadline, failure_fd());
      return fd;
    } catch (const std::system_error& e) {
      const int code = e.code().value();
      // Under a flood of strangers it may drop one of us too.
      if ((code == ECONNABORTED || code == ECONNRESET || code == EPIPE) && attempt < 4 && !failed()) continue;
      if (code == ECANCELED) rethrow();
      if (code == ETIMEDOUT) {
        throw PeerError(peer, who + " did not accept a connection within " + timeout_text() +
                                  ": stopped, or behind a firewall (ACP_INTERFACE chooses the network)");
      }
      if (code == ECONNABORTED || code == EACCES) {
        explain(peer, "refused a connection of this group (other settings, or a stranger at its address)");
      }
      explain(peer, "cannot be reached at " + address.text() + " (" + error_text(code) + ")");
    }
  }
}

void Group::fail(const Failure& reason) noexcept {
  if (!fail_quietly(reason)) return;
  const int blamed = reason.kind == Failure::Kind::peer ? reason.peer : rank_;
  for (int r = 0; r < size_; ++r) tell(r, Control::abort, blamed, 0, reason.text);
}

bool Group::fail_quietly(const Failure& reason) noexcept {
  const std::lock_guard lock(mutex_);
  if (reason_) return false;
  reason_ = reason;
  failed_.store(true, std::memory_order_release);
  failure_.notify();
  changed_.notify_all();
  return true;
}

void Group::rethrow() const {
  std::unique_lock lock(mutex_);
  const Failure reason = *reason_;
  lock.unlock();
  reason.raise();
}

bool Group::has_left(int peer) const {
  const std::lock_guard lock(mutex_);
  return controls_[static_cast<std::size_t>(peer)]->state == State::left;
}

void Group::explain(int peer, const std::string& what) {
  std::unique_lock lock(mutex_);
  const auto& control = *controls_[static_cast<std::size_t>(peer)];
  // Not for `gone` alone: the thread that found it out is about to say why.
  changed_.wait_for(lock, std::chrono::seconds(2), [&] { return reason_ || control.state == State::left; });
  if (reason_) {
    const Failure reason = *reason_;
    lock.unlock();
    reason.raise();
  }
  const std::string who = "rank " + to_string(peer);
  if (control.state == State::left)
    throw PeerError(peer, who + " has ended its part and left, but is still needed");
  throw PeerError(peer, who + " " + what);
}

void Group::deadline_passed(int peer, std::uint32_t channel) {
  const std::string late = " did not take part within " + timeout_text() + ": ";
  std::string chain;
  std::vector<bool> seen(static_cast<std::size_t>(size_), false);
  for (int at = peer;;) {
    const std::string who = "rank " + to_string(at);
    if (at == rank_ || seen[static_cast<std::size_t>(at)]) {
      throw PeerError(peer, "rank " + to_string(peer) + late + "ranks wait for each other (rank " +
                                to_string(rank_) + " for rank " + to_string(peer) + chain +
                                "), so they do different things");
    }
    seen[static_cast<std::size_t>(at)] = true;
    const int next = ask(at, channel);
    switch (next) {
      case no_answer:
        throw PeerError(at, who + late + "its process is stopped or its machine cannot be reached" + chain);
      case never_opened:
        throw PeerError(
            at, who + late + "it has not opened this channel (number " + to_string(channel) + ")" + chain);
      case not_waiting:
        throw PeerError(at, who + late + "it is missing, stuck, or runs another program" + chain);
      default:
        chain += ", rank " + to_string(at) + " waits for rank " + to_string(next);
        at = next;
    }
  }
}

int Group::ask(int peer, std::uint32_t channel) {
  const std::pair key(peer, channel);
  {
    const std::lock_guard lock(mutex_);
    answers_.erase(key);
  }
  tell(peer, Control::question, static_cast<int>(channel), 0, "");
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::seconds(2), [&] { return reason_ || answers_.count(key) > 0; });
  if (reason_) {
    const Failure reason = *reason_;
    lock.unlock();
    reason.raise();
  }
  const auto found = answers_.find(key);
  return found == answers_.end() ? no_answer : found->second;
}

}  // namespace acp::tcp
