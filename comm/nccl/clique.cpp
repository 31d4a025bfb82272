// NCCL's calls do not block (ncclConfig_t::blocking = 0): the waits are here, with a deadline.
#include "comm/nccl/clique.h"

#include <ATen/ops/empty.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>
#include <string>

#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/nccl/check.h"
#include "comm/nccl/operations.h"

namespace acp::nccl {

namespace {

using namespace std::chrono_literals;

constexpr auto grace = 2s;
// Between two looks of the watching thread at what is under way.
constexpr auto look_interval = 50ms;

class EndMark final : public Mark {
 public:
  explicit EndMark(std::shared_ptr<const c10::Event> end) : end_(std::move(end)) {}
  bool reached() const override { return end_->query(); }
  void join() const override { end_->block(current_stream(end_->device())); }

 private:
  std::shared_ptr<const c10::Event> end_;
};

ncclUniqueId agree_id(Communicator& host) {
  ncclUniqueId id{};
  if (host.rank() == 0) check("ncclGetUniqueId", ncclGetUniqueId(&id), nullptr);
  const at::Tensor bytes = at::empty({static_cast<std::int64_t>(sizeof id)}, at::kByte);
  std::memcpy(bytes.data_ptr(), &id, sizeof id);
  Collective op = Collective::broadcast(bytes);
  op.label = "NCCL's identifier";
  host.perform(std::move(op));
  std::memcpy(&id, bytes.const_data_ptr(), sizeof id);
  return id;
}

}  // namespace

struct Clique::Operation {
  Collective op;  // for messages; without its tensors
  std::shared_ptr<c10::Event> begin, end;
};

Clique::Clique(Backend& backend, Communicator& host, at::Device device)
    : backend_(backend), stream_(side_stream(device)), progress_(Clock::now()) {
  const c10::StreamGuard guard(stream_);  // and device: NCCL takes the current one
  ncclUniqueId id = agree_id(host);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  try {
    check("ncclCommInitRankConfig", ncclCommInitRankConfig(&comm_, host.size(), id, host.rank(), &config),
          nullptr);
    settle("ncclCommInitRankConfig", Clock::now() + wait_timeout());
  } catch (...) {
    if (comm_ != nullptr) ncclCommAbort(comm_);
    throw;
  }
  watch_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
}

Clique::~Clique() {
  watch_.request_stop();
  watch_.join();
  const std::lock_guard lock(mutex_);
  const auto deadline = Clock::now() + grace;
  try {
    for (reap(); !under_way_.empty() && !aborted_ && Clock::now() < deadline; reap()) {
      std::this_thread::sleep_for(1ms);
    }
    if (!aborted_ && under_way_.empty() && !backend_.failed()) {
      check("ncclCommFinalize", ncclCommFinalize(comm_), comm_);
      settle("ncclCommFinalize", deadline);
      ncclCommDestroy(comm_);
      return;
    }
  } catch (const std::exception&) {  // the destructor's user has its results, or an error already
  }
  if (!aborted_) ncclCommAbort(comm_);
}

MarkPtr Clique::start(const Collective& op) {
  const std::lock_guard lock(mutex_);
  if (aborted_) throw CommunicationError("its NCCL communicator was aborted");
  reap();
  const MarkPtr ready = mark_current(device());
  const c10::StreamGuard guard(stream_);
  join(ready);
  const c10::impl::VirtualGuardImpl allocator(stream_.device_type());
  for (const at::Tensor* x : {&op.in, &op.out}) {
    // Its memory is not given to others before the stream is done with it.
    if (x->defined()) allocator.recordDataPtrOnStream(x->storage().data_ptr(), stream_);
  }
  Operation operation{op,
                      std::make_shared<c10::Event>(stream_.device_type(), c10::EventFlag::BACKEND_DEFAULT),
                      std::make_shared<c10::Event>(stream_.device_type(), c10::EventFlag::BACKEND_DEFAULT)};
  operation.op.in.reset();
  operation.op.out.reset();
  operation.begin->record(stream_);
  backend_.started();
  launch(op, backend_.rank(), backend_.size(), comm_, static_cast<cudaStream_t>(stream_.native_handle()));
  settle("ncclGroupEnd", Clock::now() + wait_timeout());
  operation.end->record(stream_);
  auto mark = std::make_shared<EndMark>(operation.end);
  if (under_way_.empty()) progress_ = Clock::now();
  under_way_.push_back(std::move(operation));
  changed_.notify_all();
  return mark;
}

double Clique::seconds() const {
  const std::lock_guard lock(mutex_);
  return seconds_;
}

// Until the last call has done its work on the host. The lock is held: the watching thread waits meanwhile.
void Clique::settle(const char* call, Clock::time_point deadline) {
  for (auto nap = 10us;; nap = std::min<std::chrono::microseconds>(2 * nap, 1000us)) {
    ncclResult_t state = ncclSuccess;
    check("ncclCommGetAsyncError", ncclCommGetAsyncError(comm_, &state), comm_);
    check(call, state, comm_);
    if (state == ncclSuccess) return;
    if (const auto failure = backend_.failure()) failure->raise();
    if (Clock::now() >= deadline) {
      throw CommunicationError(std::string(call) + " has not come to an end within " + timeout_text() + "; " +
                               backend_.who_is_late());
    }
    std::this_thread::sleep_for(nap);
  }
}

// The watching thread: asleep while nothing is under way.
void Clique::watch(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [&] { return !under_way_.empty() && !aborted_; })) {
    try {
      look();
    } catch (...) {
      give_up(Failure::of(std::current_exception()));
    }
    changed_.wait_for(lock, stop, look_interval, [] { return false; });
    if (stop.stop_requested()) return;
  }
}

void Clique::look() {
  reap();
  if (const auto failure = backend_.failure()) return give_up(*failure);
  ncclResult_t state = ncclSuccess;
  check("ncclCommGetAsyncError", ncclCommGetAsyncError(comm_, &state), comm_);
  check("NCCL reports", state, comm_);
  if (!under_way_.empty() && Clock::now() >= progress_ + wait_timeout()) {
    throw CommunicationError("no end within " + timeout_text() + "; " + backend_.who_is_late());
  }
}

void Clique::reap() {
  while (!under_way_.empty() && under_way_.front().end->query()) {
    const Operation& first = under_way_.front();
    seconds_ += first.begin->elapsedTime(*first.end) * 1e-3;
    under_way_.pop_front();
    progress_ = Clock::now();
  }
}

// The kernels of what is under way end by it, and whoever waits for the device goes on.
void Clique::give_up(const Failure& failure) {
  backend_.fail(under_way_.empty() ? failure
                                   : during(failure, "nccl", backend_.rank(), under_way_.front().op));
  aborted_ = true;
  ncclCommAbort(comm_);
}

}  // namespace acp::nccl
