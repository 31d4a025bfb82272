// Ranks as threads of one process: a hub of mailboxes where a send and its receive meet and one side copies.
#include "comm/local/local.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/failure.h"

namespace acp::local {

namespace {

// Short messages are copied at once, so that their sender need not wait for the receiver.
constexpr std::size_t eager_bytes = 4096;

// One side of a message that has not met the other yet, or is being copied.
struct Post {
  enum class State : std::uint8_t { posted, copying, done, failed };

  std::byte* data = nullptr;
  std::size_t bytes = 0;
  int peer = -1, tag = 0;
  bool is_send = false;
  State state = State::posted;
  std::vector<std::byte> kept;  // an eager send's copy
  Failure failure;
};

// What one rank has sent to another and what the other has asked for; at most one queue is not empty.
struct Lane {
  std::deque<std::shared_ptr<Post>> sends, receives;
};

struct Channel {
  explicit Channel(int size)
      : lanes(static_cast<std::size_t>(size) * static_cast<std::size_t>(size)),
        changed(static_cast<std::size_t>(size)),
        waits_for(static_cast<std::size_t>(size), -1),
        closed(static_cast<std::size_t>(size), false),
        gave_up(static_cast<std::size_t>(size)),
        opened(static_cast<std::size_t>(size), 0) {}

  struct Child {
    std::shared_ptr<Channel> channel;
    int joined = 0;
  };
  struct Reason {
    int origin;  // the rank on which it began
    std::string text;
  };

  std::vector<Lane> lanes;                       // [from * size + to]
  std::vector<std::condition_variable> changed;  // something of this rank's posts has changed
  std::vector<int> waits_for;                    // the peer that this rank's wait() is blocked on, or -1
  std::vector<bool> closed;                      // this rank's transport has been destroyed
  std::vector<std::optional<Reason>> gave_up;  // this rank's operation failed; it takes part in nothing more
  std::vector<std::size_t> opened;             // channel() calls of this rank
  std::map<std::size_t, Child> children;       // by number of the call, until every rank has joined
};

// Shared by all transports of all ranks. One mutex guards everything below and all channels; copies happen
// outside.
struct Hub {
  explicit Hub(int n) : size(n), alive(static_cast<std::size_t>(n), 0) {}

  const int size;
  std::mutex mutex;
  std::vector<int> alive;  // transports that each rank still has
  std::vector<std::weak_ptr<Channel>> channels;
  std::optional<Failure> failure;  // the first abort
  int origin = -1;                 // the rank that it came from

  std::shared_ptr<Channel> make_channel() {
    auto channel = std::make_shared<Channel>(size);
    std::erase_if(channels, [](const auto& c) { return c.expired(); });
    channels.push_back(channel);
    return channel;
  }
  void wake_all() {
    for (auto& weak : channels) {
      if (auto channel = weak.lock()) {
        for (auto& changed : channel->changed) changed.notify_all();
      }
    }
  }
};

class LocalTransport final : public Transport {
 public:
  // The hub's mutex is held by the caller.
  LocalTransport(std::shared_ptr<Hub> hub, std::shared_ptr<Channel> channel, int rank)
      : hub_(std::move(hub)), channel_(std::move(channel)), rank_(rank) {
    ++hub_->alive[index(rank_)];
  }
  LocalTransport(const LocalTransport&) = delete;
  LocalTransport& operator=(const LocalTransport&) = delete;

  ~LocalTransport() override {
    std::unique_lock lock(hub_->mutex);
    withdraw(lock);
    channel_->closed[index(rank_)] = true;
    --hub_->alive[index(rank_)];
    hub_->wake_all();
  }

  int rank() const override { return rank_; }
  int size() const override { return hub_->size; }
  std::string_view backend() const override { return "local"; }
  std::uint64_t bytes_sent() const override { return bytes_sent_; }

  Ticket send(int peer, std::span<const std::byte> data, int tag) override {
    std::unique_lock lock(hub_->mutex);
    check_usable(lock);
    bytes_sent_ += data.size();
    Lane& lane = lane_of(rank_, peer);
    if (!lane.receives.empty()) {
      const auto other = pop(lane.receives);
      if (matches(*other, data.size(), tag, rank_))
        transfer(lock, *other, other->data, data.data(), data.size());
      channel_->changed[index(peer)].notify_all();
      return 0;
    }
    auto post = std::make_shared<Post>();
    // Only ever read from: a send's data goes out through memcpy's second argument.
    post->data = const_cast<std::byte*>(data.data());
    post->bytes = data.size();
    post->peer = peer;
    post->tag = tag;
    post->is_send = true;
    if (data.size() <= eager_bytes) {
      post->kept.assign(data.begin(), data.end());
      post->data = post->kept.data();
    }
    lane.sends.push_back(post);
    return data.size() <= eager_bytes ? 0 : keep(std::move(post));
  }

  Ticket receive(int peer, std::span<std::byte> data, int tag) override {
    std::unique_lock lock(hub_->mutex);
    check_usable(lock);
    Lane& lane = lane_of(peer, rank_);
    auto post = std::make_shared<Post>();
    post->data = data.data();
    post->bytes = data.size();
    post->peer = peer;
    post->tag = tag;
    if (lane.sends.empty()) {
      lane.receives.push_back(post);
      return keep(std::move(post));
    }
    const auto other = pop(lane.sends);
    if (!matches(*post, other->bytes, other->tag, peer)) {
      other->state = Post::State::done;  // the sender has done nothing wrong that it could know of
      channel_->changed[index(peer)].notify_all();
      return keep(std::move(post));
    }
    transfer(lock, *other, data.data(), other->data, data.size());
    channel_->changed[index(peer)].notify_all();
    return 0;
  }

  void wait(Ticket ticket) override {
    std::unique_lock lock(hub_->mutex);
    if (ticket == 0) return check_usable(lock);
    const auto found = posts_.find(ticket);
    if (found == posts_.end()) {
      check_usable(lock);
      throw CommunicationError("a message was waited for twice");
    }
    const std::shared_ptr<Post> post = found->second;
    block_on(lock, *post);
    posts_.erase(ticket);
    if (post->state == Post::State::failed) give_up(lock, post->failure);
  }

  std::unique_ptr<Transport> channel() override {
    const std::unique_lock lock(hub_->mutex);
    const std::size_t number = channel_->opened[index(rank_)]++;
    Channel::Child& child = channel_->children[number];
    if (!child.channel) child.channel = hub_->make_channel();
    auto joined = std::make_unique<LocalTransport>(hub_, child.channel, rank_);
    if (++child.joined == hub_->size) channel_->children.erase(number);
    return joined;
  }

  void abort(std::exception_ptr reason) noexcept override {
    Failure failure = Failure::of(reason);
    const std::unique_lock lock(hub_->mutex);
    if (hub_->failure) return;
    hub_->failure = std::move(failure);
    hub_->origin = rank_;
    hub_->wake_all();
  }

 private:
  using Lock = std::unique_lock<std::mutex>;

  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }
  Lane& lane_of(int from, int to) { return channel_->lanes[index(from) * index(hub_->size) + index(to)]; }

  static std::shared_ptr<Post> pop(std::deque<std::shared_ptr<Post>>& queue) {
    auto post = std::move(queue.front());
    queue.pop_front();
    return post;
  }

  Ticket keep(std::shared_ptr<Post> post) {
    posts_.emplace(++last_ticket_, std::move(post));
    return last_ticket_;
  }

  // Whether a message of `bytes` and `tag` is what `receive` expects; if not, the receive fails.
  static bool matches(Post& receive, std::size_t bytes, int tag, int sender) {
    if (receive.bytes == bytes && receive.tag == tag) return true;
    receive.state = Post::State::failed;
    receive.failure = {Failure::Kind::peer, sender,
                       "the ranks do different things: peer " + std::to_string(sender) + " sent " +
                           std::to_string(bytes) + " bytes of another operation or shape (tag " +
                           std::to_string(tag) + ") where " + std::to_string(receive.bytes) + " bytes (tag " +
                           std::to_string(receive.tag) + ") were expected"};
    return false;
  }

  // Copies without the lock; `other` is the side whose owner may be waiting, and which must not leave
  // meanwhile.
  static void transfer(Lock& lock, Post& other, std::byte* to, const std::byte* from, std::size_t bytes) {
    other.state = Post::State::copying;
    lock.unlock();
    if (bytes > 0) std::memcpy(to, from, bytes);
    lock.lock();
    other.state = Post::State::done;
  }

  // Throws if this channel has failed or the backend was aborted.
  void check_usable(Lock& lock) {
    if (dead_) dead_->raise();
    if (hub_->failure) aborted(lock);
  }

  void block_on(Lock& lock, const Post& post) {
    if (post.state != Post::State::posted && post.state != Post::State::copying) return;
    const auto deadline = std::chrono::steady_clock::now() + wait_timeout();
    channel_->waits_for[index(rank_)] = post.peer;
    while (post.state == Post::State::posted || post.state == Post::State::copying) {
      if (post.state == Post::State::posted) {  // a copy in progress ends by itself
        if (hub_->failure) aborted(lock);
        if (const auto& reason = channel_->gave_up[index(post.peer)]) {
          fail(lock, *reason, stopped_by(reason->origin, reason->text));
        }
        if (channel_->closed[index(post.peer)] || hub_->alive[index(post.peer)] == 0) {
          give_up(lock, {Failure::Kind::peer, post.peer,
                         "peer " + std::to_string(post.peer) + " closed the connection"});
        }
        if (std::chrono::steady_clock::now() >= deadline) give_up(lock, missing(post));
        channel_->changed[index(rank_)].wait_until(lock, deadline);
      } else {
        channel_->changed[index(rank_)].wait(lock);
      }
    }
    channel_->waits_for[index(rank_)] = -1;
  }

  // Names the rank at the end of the chain of waits: the one that all others wait for.
  Failure missing(const Post& post) const {
    int culprit = post.peer;
    for (int hops = 0; hops < hub_->size && channel_->waits_for[index(culprit)] >= 0; ++hops) {
      culprit = channel_->waits_for[index(culprit)];
    }
    if (channel_->waits_for[index(culprit)] >= 0) culprit = post.peer;  // they wait in a circle
    std::string text = "peer " + std::to_string(post.peer) +
                       (post.is_send ? " received nothing for " : " sent nothing for ") + timeout_text();
    if (culprit != post.peer) text += ", itself waiting for rank " + std::to_string(culprit);
    return {Failure::Kind::peer, culprit, text};
  }

  // Takes back every post of this rank, so that nobody touches its memory after an exception.
  void withdraw(Lock& lock) {
    for (auto& [ticket, post] : posts_) {
      Lane& lane = post->is_send ? lane_of(rank_, post->peer) : lane_of(post->peer, rank_);
      std::erase(post->is_send ? lane.sends : lane.receives, post);
    }
    for (const auto& entry : posts_) {  // clang before 16 lets no lambda capture a structured binding
      const Post& post = *entry.second;
      channel_->changed[index(rank_)].wait(lock, [&] { return post.state != Post::State::copying; });
    }
    posts_.clear();
  }

  [[noreturn]] void aborted(Lock& lock) {
    const Channel::Reason reason{hub_->origin, hub_->failure->text};
    fail(lock, reason, reason.origin == rank_ ? *hub_->failure : stopped_by(reason.origin, reason.text));
  }

  // Something went wrong here first.
  [[noreturn]] void give_up(Lock& lock, const Failure& failure) {
    fail(lock, {rank_, failure.text}, failure);
  }

  // Ends this rank's part in the channel, tells those who wait for it, and throws.
  [[noreturn]] void fail(Lock& lock, Channel::Reason reason, Failure failure) {
    channel_->waits_for[index(rank_)] = -1;
    channel_->gave_up[index(rank_)] = std::move(reason);
    for (auto& changed : channel_->changed) changed.notify_all();
    dead_ = std::move(failure);
    withdraw(lock);
    dead_->raise();
  }

  const std::shared_ptr<Hub> hub_;
  const std::shared_ptr<Channel> channel_;
  const int rank_;
  std::unordered_map<Ticket, std::shared_ptr<Post>> posts_;
  Ticket last_ticket_ = 0;
  std::atomic<std::uint64_t> bytes_sent_ = 0;
  std::optional<Failure> dead_;  // why this channel can no longer be used
};

}  // namespace

std::vector<std::unique_ptr<Transport>> transports(int size) {
  if (size < 1) throw ConfigError("local: " + std::to_string(size) + " ranks; at least one is needed");
  auto hub = std::make_shared<Hub>(size);
  const std::unique_lock lock(hub->mutex);
  const auto channel = hub->make_channel();
  std::vector<std::unique_ptr<Transport>> made;
  made.reserve(static_cast<std::size_t>(size));
  for (int r = 0; r < size; ++r) made.push_back(std::make_unique<LocalTransport>(hub, channel, r));
  return made;
}

}  // namespace acp::local
