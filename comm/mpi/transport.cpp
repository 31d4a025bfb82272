// Messages: each becomes an operation of the MPI thread.
#include "comm/mpi/transport.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <string>

#include "comm/error.h"

namespace acp::mpi {

MpiTransport::MpiTransport(std::shared_ptr<MpiThread> thread, std::shared_ptr<Channel> channel)
    : thread_(std::move(thread)), channel_(std::move(channel)) {}

MpiTransport::~MpiTransport() {
  thread_->close(channel_);
}

Ticket MpiTransport::send(int peer, std::span<const std::byte> data, int tag) {
  bytes_sent_ += data.size();
  // MPI only reads from it.
  return enter(Operation::Kind::send, peer, const_cast<std::byte*>(data.data()), data.size(), tag);
}

Ticket MpiTransport::receive(int peer, std::span<std::byte> data, int tag) {
  return enter(Operation::Kind::receive, peer, data.data(), data.size(), tag);
}

Ticket MpiTransport::enter(Operation::Kind kind, int peer, std::byte* data, std::size_t size, int tag) {
  if (peer < 0 || peer >= this->size() || peer == rank()) {
    throw ConfigError("there is no other rank " + std::to_string(peer) + " in a world of " +
                      std::to_string(this->size()));
  }
  auto operation = std::make_shared<Operation>();
  operation->kind = kind;
  operation->channel = channel_;
  operation->call = kind == Operation::Kind::send ? "MPI_Isend" : "MPI_Irecv";
  operation->peer = peer;
  operation->data = data;
  operation->size = size;
  operation->tag = tag;
  thread_->submit(operation);
  open_.emplace(++last_ticket_, std::move(operation));
  return last_ticket_;
}

void MpiTransport::wait(Ticket ticket) {
  if (ticket == 0) return;
  const auto found = open_.find(ticket);
  if (found == open_.end()) throw CommunicationError("a message was waited for twice");
  const auto operation = std::move(found->second);
  open_.erase(found);
  thread_->wait(operation);
}

std::unique_ptr<Transport> MpiTransport::channel() {
  return std::make_unique<MpiTransport>(thread_, thread_->open(channel_));
}

void MpiTransport::collective(const char* call, std::function<int(MPI_Comm, MPI_Request*)> start) {
  auto operation = std::make_shared<Operation>();
  operation->kind = Operation::Kind::collective;
  operation->channel = channel_;
  operation->call = call;
  operation->start = std::move(start);
  thread_->submit(operation);
  thread_->wait(operation);
}

void MpiTransport::use_device(c10::Device device) {
  auto operation = std::make_shared<Operation>();
  operation->channel = channel_;
  operation->call = "choice of the GPU";
  operation->start = [device](MPI_Comm, MPI_Request*) {
    c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
    return MPI_SUCCESS;
  };
  thread_->submit(operation);
  thread_->wait(operation);
}

}  // namespace acp::mpi
