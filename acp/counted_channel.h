// Channels whose traffic is added up.
#pragma once

#include <future>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "comm/communicator.h"

namespace acp {

// Adds up the traffic of channels that come and go.
class Ledger {
 public:
  void enter(const Communicator* channel) {
    const std::lock_guard lock(mutex_);
    open_.insert(channel);
  }
  void leave(const Communicator* channel) {
    const std::lock_guard lock(mutex_);
    add(closed_, channel->traffic());
    open_.erase(channel);
  }
  Communicator::Traffic total() const {
    const std::lock_guard lock(mutex_);
    Communicator::Traffic sum = closed_;
    for (const Communicator* channel : open_) add(sum, channel->traffic());
    return sum;
  }

 private:
  static void add(Communicator::Traffic& sum, const Communicator::Traffic& part) {
    sum.bytes_sent += part.bytes_sent;
    sum.estimated = sum.estimated || part.estimated;
    sum.seconds += part.seconds;
  }
  mutable std::mutex mutex_;
  std::set<const Communicator*> open_;
  Communicator::Traffic closed_;
};

// A channel whose traffic goes into the ledger, also after it is closed.
class CountedChannel final : public Communicator {
 public:
  CountedChannel(std::unique_ptr<Communicator> channel, std::shared_ptr<Ledger> ledger)
      : channel_(std::move(channel)), ledger_(std::move(ledger)) {
    ledger_->enter(channel_.get());
  }
  ~CountedChannel() override { ledger_->leave(channel_.get()); }
  CountedChannel(const CountedChannel&) = delete;
  CountedChannel& operator=(const CountedChannel&) = delete;

  int rank() const override { return channel_->rank(); }
  int size() const override { return channel_->size(); }
  std::future<void> start(Collective op) override { return channel_->start(std::move(op)); }
  std::unique_ptr<Communicator> channel() override {
    return std::make_unique<CountedChannel>(channel_->channel(), ledger_);
  }
  void perform(Collective op) override { channel_->perform(std::move(op)); }
  void abort(std::exception_ptr reason) noexcept override { channel_->abort(std::move(reason)); }
  std::string_view backend() const override { return channel_->backend(); }
  Traffic traffic() const override { return channel_->traffic(); }
  void check() const override { channel_->check(); }

 private:
  std::unique_ptr<Communicator> channel_;
  std::shared_ptr<Ledger> ledger_;
};

}  // namespace acp
