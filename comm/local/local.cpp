// Ranks as threads: a hub of mailboxes in memory. A message is copied once, by whichever side comes second.
#include "comm/local/local.h"

#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>

#include "comm/deadline.h"
#include "comm/error.h"

namespace acp::local {

namespace {

// One half of a message; the other half is matched to it in order.
struct Half {
  int peer;
  bool sends;
  std::byte* data;
  std::size_t size;
  int tag;
  bool done = false;
  std::string mismatch;  // not empty: the other side does something else
};

struct Channel {
  explicit Channel(int size) : mailboxes(static_cast<std::size_t>(size) * static_cast<std::size_t>(size)) {}
  struct Mailbox {  // of one direction between two ranks; at most one of the queues has entries
    std::deque<std::shared_ptr<Half>> sends, receives;
  };
  std::vector<Mailbox> mailboxes;
};

// What the ranks of one group share: every channel, one lock, the reason of an abort.
struct Hub {
  explicit Hub(int ranks) : size(ranks), changed(static_cast<std::size_t>(ranks)) {}
  const int size;
  std::mutex mutex;
  std::vector<std::condition_variable> changed;  // one for each rank that may wait
  std::vector<std::weak_ptr<Channel>> channels;  // the k-th that any rank has opened
  std::exception_ptr aborted;
  int aborted_by = -1;
};

class LocalTransport final : public Transport {
 public:
  LocalTransport(std::shared_ptr<Hub> hub, std::shared_ptr<Channel> channel,
                 std::shared_ptr<std::size_t> opened, int rank)
      : hub_(std::move(hub)), channel_(std::move(channel)), opened_(std::move(opened)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return hub_->size; }
  std::string_view backend() const override { return "local"; }
  std::uint64_t bytes_sent() const override { return bytes_sent_; }

  Ticket send(int peer, std::span<const std::byte> data, int tag) override {
    bytes_sent_ += data.size();
    // The receiver only reads from it.
    return post(std::make_shared<Half>(
        Half{peer, true, const_cast<std::byte*>(data.data()), data.size(), tag, false, {}}));
  }
  Ticket receive(int peer, std::span<std::byte> data, int tag) override {
    return post(std::make_shared<Half>(Half{peer, false, data.data(), data.size(), tag, false, {}}));
  }

  void wait(Ticket ticket) override {
    const auto found = posted_.find(ticket);
    if (found == posted_.end()) return;
    const std::shared_ptr<Half> half = found->second;
    posted_.erase(found);
    std::unique_lock lock(hub_->mutex);
    const bool in_time = hub_->changed[static_cast<std::size_t>(rank_)].wait_for(
        lock, wait_timeout(), [&] { return half->done || hub_->aborted; });
    if (half->done) {
      if (!half->mismatch.empty()) throw CommunicationError(half->mismatch);
      return;
    }
    if (hub_->aborted) std::rethrow_exception(hub_->aborted);
    if (!in_time) {
      throw PeerError(half->peer, "rank " + std::to_string(half->peer) + " did not take part within " +
                                      std::to_string(wait_timeout().count() / 1000.0) +
                                      " s (ACP_TIMEOUT): it is missing, stuck, or runs another program");
    }
  }

  std::unique_ptr<Transport> channel() override {
    const std::lock_guard lock(hub_->mutex);
    const std::size_t index = (*opened_)++;
    if (hub_->channels.size() <= index) hub_->channels.resize(index + 1);
    std::shared_ptr<Channel> channel = hub_->channels[index].lock();
    if (!channel) hub_->channels[index] = channel = std::make_shared<Channel>(hub_->size);
    return std::make_unique<LocalTransport>(hub_, std::move(channel), opened_, rank_);
  }

  void abort(std::exception_ptr reason) noexcept override {
    const std::lock_guard lock(hub_->mutex);
    if (hub_->aborted) return;
    hub_->aborted = std::move(reason);
    hub_->aborted_by = rank_;
    for (auto& condition : hub_->changed) condition.notify_all();
  }

 private:
  Ticket post(std::shared_ptr<Half> half) {
    std::unique_lock lock(hub_->mutex);
    if (hub_->aborted) std::rethrow_exception(hub_->aborted);
    const int from = half->sends ? rank_ : half->peer;
    const int to = half->sends ? half->peer : rank_;
    auto& mailbox = channel_->mailboxes[static_cast<std::size_t>(from * hub_->size + to)];
    auto& mine = half->sends ? mailbox.sends : mailbox.receives;
    auto& theirs = half->sends ? mailbox.receives : mailbox.sends;
    const Ticket ticket = ++last_ticket_;
    posted_[ticket] = half;
    if (theirs.empty()) {
      mine.push_back(std::move(half));
      return ticket;
    }
    const std::shared_ptr<Half> other = std::move(theirs.front());
    theirs.pop_front();
    const Half& sent = half->sends ? *half : *other;
    const Half& wanted = half->sends ? *other : *half;
    if (sent.size == wanted.size && sent.tag == wanted.tag) {
      lock.unlock();
      if (sent.size > 0) std::memcpy(wanted.data, sent.data, sent.size);
      lock.lock();
    } else {
      half->mismatch = other->mismatch =
          "ranks do different things: rank " + std::to_string(from) + " sent " + std::to_string(sent.size) +
          " bytes (tag " + std::to_string(sent.tag) + ") where rank " + std::to_string(to) + " expected " +
          std::to_string(wanted.size) + " bytes (tag " + std::to_string(wanted.tag) + ")";
    }
    half->done = other->done = true;
    hub_->changed[static_cast<std::size_t>(half->peer)].notify_all();
    return ticket;
  }

  std::shared_ptr<Hub> hub_;
  std::shared_ptr<Channel> channel_;
  std::shared_ptr<std::size_t> opened_;  // channels that this rank has opened; shared by its transports
  int rank_;
  std::map<Ticket, std::shared_ptr<Half>> posted_;
  Ticket last_ticket_ = 0;
  std::atomic<std::uint64_t> bytes_sent_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<Transport>> transports(int size) {
  auto hub = std::make_shared<Hub>(size);
  auto channel = std::make_shared<Channel>(size);
  std::vector<std::unique_ptr<Transport>> result;
  for (int r = 0; r < size; ++r) {
    result.push_back(std::make_unique<LocalTransport>(hub, channel, std::make_shared<std::size_t>(0), r));
  }
  return result;
}

}  // namespace acp::local
