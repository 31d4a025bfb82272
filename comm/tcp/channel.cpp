// Sends, receives, and the loop in which both move.
#include "comm/tcp/channel.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string>

#include "comm/deadline.h"
#include "comm/error.h"

namespace acp::tcp {

namespace {

// Messages from twice this size on are cut into one part for each stream.
constexpr std::size_t smallest_part = std::size_t{64} * 1024;

int parts_of(std::size_t size, int streams) {
  return size >= 2 * smallest_part ? streams : 1;
}

// Where part `index` of `count` begins; whole cache lines, so that no line is written by two streams.
std::size_t part_begin(std::size_t size, int index, int count) {
  if (index == count) return size;
  return size / static_cast<std::size_t>(count) * static_cast<std::size_t>(index) / 64 * 64;
}

}  // namespace

Channel::Channel(std::shared_ptr<Group> group)
    : group_(std::move(group)),
      own_(group_->open_channel()),
      links_(static_cast<std::size_t>(group_->size())) {}

Channel::~Channel() {
  for (const auto& link : links_) {
    if (!link) continue;
    for (OutStream& stream : link->out) stream.close();
  }
  group_->close_channel(own_.number);
}

std::unique_ptr<Transport> Channel::channel() {
  if (group_->failed()) group_->rethrow();
  return std::make_unique<Channel>(group_);
}

Channel::Link& Channel::link(int peer) {
  auto& slot = links_.at(static_cast<std::size_t>(peer));
  if (!slot) {
    slot = std::make_unique<Link>();
    slot->out.resize(static_cast<std::size_t>(group_->streams()));
    slot->in.resize(static_cast<std::size_t>(group_->streams()));
  }
  return *slot;
}

void Channel::mark_busy(int peer, Link& link) {
  if (!std::exchange(link.busy, true)) busy_.push_back(peer);
}

void Channel::finish(Ticket ticket) {
  const auto found = pending_.find(ticket);
  if (--found->second.parts == 0) pending_.erase(found);
}

Ticket Channel::send(int peer, std::span<const std::byte> data, int tag) try {
  if (group_->failed()) group_->rethrow();
  Link& to = link(peer);
  bytes_sent_ += data.size();
  const Ticket ticket = ++last_ticket_;
  const int parts = parts_of(data.size(), group_->streams());
  pending_[ticket] = {peer, true, parts};
  Frame frame;
  frame.tag = static_cast<std::uint16_t>(tag);
  frame.sequence = to.sent++;
  frame.length = data.size();
  for (int i = 0; i < parts; ++i) {
    OutStream& stream = to.out[static_cast<std::size_t>(i)];
    if (!stream.connected()) {
      own_.inbox->waiting_for.store(peer, std::memory_order_relaxed);
      stream.connect(group_->dial(peer, own_.number, static_cast<std::uint32_t>(i)));
      own_.inbox->waiting_for.store(-1, std::memory_order_relaxed);
    }
    frame.part = static_cast<std::uint8_t>(i);
    const std::size_t begin = part_begin(data.size(), i, parts);
    const bool was_idle = stream.idle();
    stream.push({ticket, frame, data.data() + begin, part_begin(data.size(), i + 1, parts) - begin});
    if (was_idle) write(peer, stream);
  }
  if (pending_.count(ticket) == 0) return 0;
  mark_busy(peer, to);
  return ticket;
} catch (...) {
  group_->fail(std::current_exception());
  group_->rethrow();
}

Ticket Channel::receive(int peer, std::span<std::byte> data, int tag) try {
  if (group_->failed()) group_->rethrow();
  Link& from = link(peer);
  const Ticket ticket = ++last_ticket_;
  const int parts = parts_of(data.size(), group_->streams());
  pending_[ticket] = {peer, false, parts};
  Frame frame;
  frame.tag = static_cast<std::uint16_t>(tag);
  frame.sequence = from.received++;
  frame.length = data.size();
  for (int i = 0; i < parts; ++i) {
    frame.part = static_cast<std::uint8_t>(i);
    const std::size_t begin = part_begin(data.size(), i, parts);
    from.in[static_cast<std::size_t>(i)].push(
        {ticket, frame, data.data() + begin, part_begin(data.size(), i + 1, parts) - begin});
  }
  mark_busy(peer, from);
  return ticket;
} catch (...) {
  group_->fail(std::current_exception());
  group_->rethrow();
}

void Channel::wait(Ticket ticket) {
  if (ticket == 0) return;
  try {
    await(ticket);
  } catch (...) {
    group_->fail(std::current_exception());
    group_->rethrow();
  }
}

void Channel::await(Ticket ticket) {
  if (group_->failed()) group_->rethrow();
  const auto found = pending_.find(ticket);
  if (found == pending_.end()) return;
  const auto [peer, sends, parts] = found->second;
  // Often the data is there already: one call instead of two.
  for (InStream& stream : link(peer).in) {
    if (!sends && stream.connected() && !stream.idle()) read(peer, stream);
  }
  own_.inbox->waiting_for.store(peer, std::memory_order_relaxed);
  auto deadline = Clock::time_point::min();  // begins with the first poll(), and anew with each progress
  while (pending_.count(ticket) > 0) {
    if (!sends) check_sender(peer);
    if (!poll_once(deadline)) group_->deadline_passed(peer, own_.number);
  }
  own_.inbox->waiting_for.store(-1, std::memory_order_relaxed);
}

// A peer that has left will not open the connection that a receive waits for.
void Channel::check_sender(int peer) {
  const auto& streams = link(peer).in;
  const auto missing = [](const InStream& s) { return !s.idle() && !s.connected(); };
  if (std::none_of(streams.begin(), streams.end(), missing) || !group_->has_left(peer)) return;
  adopt_arrivals();  // what it had opened before it left is here by now
  if (std::any_of(streams.begin(), streams.end(), missing)) group_->explain(peer, "is missing");
}

void Channel::adopt_arrivals() {
  own_.inbox->wake.drain();
  std::vector<Inbox::Arrival> arrivals;
  {
    const std::lock_guard lock(own_.inbox->mutex);
    arrivals.swap(own_.inbox->arrivals);
  }
  for (auto& arrival : arrivals) {
    InStream& stream = link(arrival.peer).in[static_cast<std::size_t>(arrival.stream)];
    if (!stream.connected()) stream.connect(std::move(arrival.fd));
  }
}

// Blocks until something can move, moves it, and puts the deadline off; false when the deadline has passed.
bool Channel::poll_once(Clock::time_point& deadline) {
  if (deadline == Clock::time_point::min()) deadline = Clock::now() + wait_timeout();
  list_sources();
  // Where poll() waits for a good piece, what comes short of it is noticed a second later at most.
  const int at_most = sleeps_long_ ? 1000 : std::numeric_limits<int>::max();
  const int n = ::poll(fds_.data(), fds_.size(), std::min(milliseconds_until(deadline), at_most));
  if (n < 0 && errno != EINTR) throw CommunicationError("poll: " + error_text(errno));
  if (group_->failed()) group_->rethrow();
  if (n < 0) return true;
  if (fds_[1].revents != 0) adopt_arrivals();
  std::size_t moved = 0;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const auto [peer, stream, out] = sources_[i];
    if (fds_[i + 2].revents == 0 && (n > 0 || out)) continue;  // at n = 0 less than a good piece may be there
    Link& l = link(peer);
    moved += out ? write(peer, l.out[stream]) : read(peer, l.in[stream]);
  }
  const bool in_time = n > 0 || moved > 0 || Clock::now() < deadline;
  if (moved > 0) deadline = Clock::time_point::min();
  return in_time;
}

// What poll() shall watch: a failure of the group, new connections, every stream with something under way.
void Channel::list_sources() {
  fds_ = {{group_->failure_fd(), POLLIN, 0}, {own_.inbox->wake.fd(), POLLIN, 0}};
  sources_.clear();
  sleeps_long_ = false;
  std::erase_if(busy_, [&](int peer) {
    Link& l = link(peer);
    l.busy = false;
    for (std::size_t i = 0; i < l.out.size(); ++i) {
      if (!l.out[i].idle()) {
        fds_.push_back({l.out[i].fd(), l.out[i].events(), 0});
        sources_.push_back({peer, i, true});
        l.busy = true;
      }
      if (!l.in[i].idle() && l.in[i].connected()) {
        sleeps_long_ = l.in[i].sleep_long() || sleeps_long_;
        fds_.push_back({l.in[i].fd(), POLLIN, 0});
        sources_.push_back({peer, i, false});
      }
      l.busy = l.busy || !l.in[i].idle();
    }
    return !l.busy;
  });
}

std::size_t Channel::write(int peer, OutStream& stream) {
  const Moved moved = stream.advance([this](Ticket ticket) { finish(ticket); });
  if (moved.error != 0) group_->explain(peer, "closed the connection (" + error_text(moved.error) + ")");
  return moved.bytes;
}

std::size_t Channel::read(int peer, InStream& stream) {
  const Moved moved =
      stream.advance([this](Ticket ticket) { finish(ticket); },
                     [&](const Frame& is, const InStream::Part& must) { mismatch(peer, is, must); });
  if (moved.error != 0) {
    group_->explain(peer, moved.error == ECONNABORTED
                              ? "closed the connection"
                              : "closed the connection (" + error_text(moved.error) + ")");
  }
  return moved.bytes;
}

void Channel::mismatch(int peer, const Frame& is, const InStream::Part& must) {
  const std::string them = "rank " + std::to_string(peer);
  const std::string us = "rank " + std::to_string(rank());
  if (is.magic != must.frame.magic) {
    throw CommunicationError("what came from " + them + " is no frame: the connection is corrupt");
  }
  if (is.kind == Frame::last) {
    // Its farewell, if it has left for good, is on its way.
    group_->explain(peer, "has closed this channel, while " + us + " still expects " +
                              std::to_string(must.frame.length) +
                              " bytes from it: ranks do different things");
  }
  const auto words = [](const Frame& f) {
    return std::to_string(f.length) + " bytes (tag " + std::to_string(f.tag) + ", message " +
           std::to_string(f.sequence) + ")";
  };
  throw CommunicationError("ranks do different things: " + them + " sent " + words(is) + " where " + us +
                           " expected " + words(must.frame));
}

}  // namespace acp::tcp
