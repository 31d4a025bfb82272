// The nccl backend's front door, and its channels: GPU tensors by NCCL, the rest by the host's backend.
#include "comm/nccl/nccl.h"

#include <optional>
#include <string>

#include "comm/algorithms/algorithms.h"
#include "comm/cuda/cuda.h"
#include "comm/error.h"
#include "comm/nccl/clique.h"
#include "comm/nccl/operations.h"

namespace acp::nccl {

namespace {

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> host, std::shared_ptr<Backend> backend)
      : host_(std::move(host)), backend_(std::move(backend)) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  std::string_view backend() const override { return "nccl"; }

  std::future<void> start(Collective op) override {
    if (on_host(op)) return host_->start(std::move(op));
    std::promise<void> done;
    try {
      return when(launch(op), op);
    } catch (...) {
      done.set_exception(during(Failure::of(std::current_exception()), "nccl", rank(), op).exception());
    }
    return done.get_future();
  }

  void perform(Collective op) override {
    if (on_host(op)) return host_->perform(std::move(op));
    start(std::move(op)).get();
  }

  std::unique_ptr<Communicator> channel() override {
    return std::make_unique<NcclCommunicator>(host_->channel(), backend_);
  }

  void abort(std::exception_ptr reason) noexcept override {
    backend_->fail(Failure::of(reason));
    host_->abort(std::move(reason));
  }

  void check() const override {
    if (const auto failure = backend_->failure()) failure->raise();
  }

  Traffic traffic() const override {
    Traffic sum = host_->traffic();
    const std::lock_guard lock(mutex_);
    sum.bytes_sent += bytes_sent_;
    sum.estimated = sum.estimated || bytes_sent_ > 0;
    if (clique_) sum.seconds += clique_->seconds();
    return sum;
  }

 private:
  static bool on_host(const Collective& op) {
    const at::Tensor& x = op.in.defined() ? op.in : op.out;
    return !x.defined() || x.device().is_cpu();
  }

  MarkPtr launch(const Collective& op) {
    check_operation(op);
    check_shape(op, rank(), size());
    if (const auto failure = backend_->failure()) failure->raise();
    const at::Device device = (op.in.defined() ? op.in : op.out).device();
    if (clique_ && clique_->device() != device) {
      throw ConfigError("a rank works with one device: this tensor is on " + device.str() +
                        ", those before were on " + clique_->device().str());
    }
    try {
      if (!clique_) {
        auto made = std::make_unique<Clique>(*backend_, *host_, device);
        const std::lock_guard lock(mutex_);
        clique_ = std::move(made);
      }
      MarkPtr end = clique_->start(op);
      const std::lock_guard lock(mutex_);
      bytes_sent_ += volume(op, rank(), size());
      return end;
    } catch (...) {  // the peers wait for this rank's part
      backend_->fail(during(Failure::of(std::current_exception()), "nccl", rank(), op));
      throw;
    }
  }

  // Ready at once: waiting is the consumer's stream's.
  std::future<void> when(MarkPtr end, const Collective& op) {
    Collective described = op;
    described.in.reset();
    described.out.reset();
    return std::async(std::launch::deferred,
                      [end = std::move(end), described = std::move(described), backend = backend_] {
                        if (const auto failure = backend->failure()) {
                          during(*failure, "nccl", backend->rank(), described).raise();
                        }
                        join(end);
                      });
  }

  const std::unique_ptr<Communicator> host_;
  const std::shared_ptr<Backend> backend_;
  mutable std::mutex mutex_;        // guards what follows; the user's thread alone changes clique_
  std::unique_ptr<Clique> clique_;  // before backend_ goes
  std::uint64_t bytes_sent_ = 0;
};

}  // namespace

void require() {
  try {
    cuda::require();
  } catch (const ConfigError& error) {
    throw ConfigError("backend \"nccl\" needs a GPU: " + std::string(error.what()) +
                      " (or take the backend mpi or tcp)");
  }
}

std::unique_ptr<Communicator> connect(const std::function<std::unique_ptr<Communicator>()>& bootstrap) {
  require();
  auto host = bootstrap();
  auto backend = std::make_shared<Backend>(host->channel());
  return std::make_unique<NcclCommunicator>(std::move(host), std::move(backend));
}

}  // namespace acp::nccl
