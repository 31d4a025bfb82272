// One channel over MPI: point-to-point messages, and collectives where MPI has them.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <unordered_map>

#include "comm/mpi/mpi.h"
#include "comm/mpi/mpi_thread.h"
#include "comm/transport.h"

namespace acp::mpi {

class MpiTransport final : public Transport {
 public:
  MpiTransport(std::shared_ptr<MpiThread> thread, std::shared_ptr<Channel> channel);
  ~MpiTransport() override;
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  int rank() const override { return thread_->rank(); }
  int size() const override { return thread_->size(); }
  Local local() const { return thread_->local(); }
  std::string_view backend() const override { return "mpi"; }

  Ticket send(int peer, std::span<const std::byte> data, int tag) override;
  Ticket receive(int peer, std::span<std::byte> data, int tag) override;
  void wait(Ticket ticket) override;

  // All kinds but send_receive, for the types that MPI reduces or whose bytes it can move; false for
  // reductions of half precision and for more elements than MPI counts.
  bool native(const Collective& op) override;
  bool prefers_native(const Collective& op) const override;

  bool reaches_device() const override { return thread_->cuda_aware(); }
  void use_device(c10::Device device);

  std::unique_ptr<Transport> channel() override;
  void abort(std::exception_ptr reason) noexcept override { thread_->abort(reason); }

  std::uint64_t bytes_sent() const override { return bytes_sent_; }
  bool bytes_estimated() const override { return estimated_; }

 private:
  Ticket enter(Operation::Kind kind, int peer, std::byte* data, std::size_t size, int tag);
  void collective(const char* call, std::function<int(MPI_Comm, MPI_Request*)> start);

  const std::shared_ptr<MpiThread> thread_;
  const std::shared_ptr<Channel> channel_;
  std::unordered_map<Ticket, std::shared_ptr<Operation>> open_;
  Ticket last_ticket_ = 0;
  std::atomic<std::uint64_t> bytes_sent_ = 0;
  std::atomic<bool> estimated_ = false;
};

}  // namespace acp::mpi
