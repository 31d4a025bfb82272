// The mpi backend: a channel is a duplicated communicator; messages and collectives are non-blocking
// operations.
#include "comm/mpi/mpi.h"

#include <atomic>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>

#include "comm/algorithms/reduce_kernels.h"
#include "comm/error.h"
#include "comm/mpi/mpi_thread.h"

namespace acp::mpi {

namespace {

// MPI counts are ints: larger messages travel in pieces.
constexpr std::size_t kPiece = std::size_t{1} << 30;

std::optional<MPI_Datatype> datatype(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return MPI_FLOAT;
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kInt:
      return MPI_INT32_T;
    case at::kLong:
      return MPI_INT64_T;
    case at::kByte:
      return MPI_UINT8_T;
    default:
      return std::nullopt;  // half precision: MPI has no such type
  }
}

MPI_Op mpi_op(ReduceOp op) {
  return op == ReduceOp::min ? MPI_MIN : op == ReduceOp::max ? MPI_MAX : MPI_SUM;
}

class MpiTransport final : public Transport {
 public:
  MpiTransport(std::shared_ptr<MpiThread> thread, MPI_Comm parent) : thread_(std::move(thread)) {
    auto duplicate = std::make_shared<Operation>();
    duplicate->begin = [this, parent](Operation& operation) {
      operation.requests.resize(1);
      check(MPI_Comm_idup(parent, &comm_, &operation.requests[0]), "MPI_Comm_idup");
    };
    thread_->submit(duplicate);
    thread_->wait(duplicate);
    thread_->call(
        [this] { check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"); });
  }
  ~MpiTransport() override {
    if (thread_->aborted()) return;
    try {
      thread_->call([this] { MPI_Comm_free(&comm_); });
    } catch (const Error&) {  // aborted meanwhile: MPI is not used any more
    }
  }
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  int rank() const override { return thread_->rank(); }
  int size() const override { return thread_->size(); }
  std::string_view backend() const override { return "mpi"; }
  std::uint64_t bytes_sent() const override { return bytes_sent_; }
  bool bytes_estimated() const override { return estimated_; }

  Ticket send(int peer, std::span<const std::byte> data, int tag) override {
    bytes_sent_ += data.size();
    auto operation = std::make_shared<Operation>();
    operation->peer = peer;
    operation->begin = [this, peer, data, tag](Operation& o) {
      for_pieces(data.size(), [&](std::size_t at, int count) {
        o.requests.emplace_back();
        check(MPI_Isend(data.data() + at, count, MPI_BYTE, peer, tag, comm_, &o.requests.back()),
              "MPI_Isend");
      });
    };
    return enter(std::move(operation), Expected{});
  }

  Ticket receive(int peer, std::span<std::byte> data, int tag) override {
    auto operation = std::make_shared<Operation>();
    operation->peer = peer;
    operation->begin = [this, peer, data](Operation& o) {
      for_pieces(data.size(), [&](std::size_t at, int count) {
        o.requests.emplace_back();
        check(MPI_Irecv(data.data() + at, count, MPI_BYTE, peer, MPI_ANY_TAG, comm_, &o.requests.back()),
              "MPI_Irecv");
      });
    };
    return enter(std::move(operation), Expected{true, data.size(), tag});
  }

  void wait(Ticket ticket) override {
    const auto found = pending_.find(ticket);
    if (found == pending_.end()) return;
    const auto [operation, expected] = found->second;
    pending_.erase(found);
    thread_->wait(operation);
    compare(*operation, expected);
  }

  bool native(const Collective& op) override;
  // Small reductions: Open MPI's recursive doubling takes fewer hand-overs between threads than our ring.
  bool prefers_native(const Collective& op) const override {
    return op.kind == Collective::Kind::barrier ||
           (op.kind == Collective::Kind::all_reduce && op.in.nbytes() <= 64 * 1024);
  }

  std::unique_ptr<Transport> channel() override { return std::make_unique<MpiTransport>(thread_, comm_); }
  void abort(std::exception_ptr reason) noexcept override { thread_->abort(std::move(reason)); }

 private:
  struct Expected {
    bool receives = false;
    std::size_t size = 0;
    int tag = 0;
  };

  template <class Body>
  static void for_pieces(std::size_t size, Body body) {
    std::size_t at = 0;
    do {
      const std::size_t count = std::min(kPiece, size - at);
      body(at, static_cast<int>(count));
      at += count;
    } while (at < size);
  }

  Ticket enter(std::shared_ptr<Operation> operation, Expected expected) {
    thread_->submit(operation);
    pending_.emplace(++last_ticket_, std::make_pair(std::move(operation), expected));
    return last_ticket_;
  }

  void compare(const Operation& operation, const Expected& expected) const {
    std::size_t arrived = 0;
    for (std::size_t i = 0; i < operation.requests.size(); ++i) {
      int error_class = MPI_SUCCESS;
      if (operation.codes[i] != MPI_SUCCESS) MPI_Error_class(operation.codes[i], &error_class);
      if (error_class == MPI_ERR_TRUNCATE) {
        throw CommunicationError("ranks do different things: rank " + std::to_string(operation.peer) +
                                 " sent more than the " + std::to_string(expected.size) +
                                 " bytes that rank " + std::to_string(rank()) + " expected");
      }
      check(operation.codes[i], expected.receives ? "MPI_Irecv" : "MPI_Isend");
      if (!expected.receives) continue;
      int count = 0;
      check(MPI_Get_count(&operation.statuses[i], MPI_BYTE, &count), "MPI_Get_count");
      arrived += static_cast<std::size_t>(count);
      if (operation.statuses[i].MPI_TAG != expected.tag) {
        throw CommunicationError("ranks do different things: rank " + std::to_string(operation.peer) +
                                 " sent a message of tag " + std::to_string(operation.statuses[i].MPI_TAG) +
                                 " where rank " + std::to_string(rank()) + " expected " +
                                 std::to_string(expected.tag));
      }
    }
    if (expected.receives && arrived != expected.size) {
      throw CommunicationError("ranks do different things: rank " + std::to_string(operation.peer) +
                               " sent " + std::to_string(arrived) + " bytes where rank " +
                               std::to_string(rank()) + " expected " + std::to_string(expected.size));
    }
  }

  void perform_native(const char* name, std::function<int(MPI_Request*)> start) {
    auto operation = std::make_shared<Operation>();
    operation->begin = [&](Operation& o) {
      o.requests.resize(1);
      check(start(&o.requests[0]), name);
    };
    thread_->submit(operation);
    thread_->wait(operation);
    check(operation->codes[0], name);
  }

  std::shared_ptr<MpiThread> thread_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::map<Ticket, std::pair<std::shared_ptr<Operation>, Expected>> pending_;
  Ticket last_ticket_ = 0;
  std::atomic<std::uint64_t> bytes_sent_ = 0;
  std::atomic<bool> estimated_ = false;
};

bool MpiTransport::native(const Collective& op) {
  constexpr std::int64_t limit = 1 << 30;
  const int n = size();
  if (op.kind == Collective::Kind::barrier) {
    perform_native("MPI_Ibarrier", [&](MPI_Request* r) { return MPI_Ibarrier(comm_, r); });
    return true;
  }
  if (!op.out.defined() || !op.in.defined() || op.out.numel() >= limit || op.in.numel() >= limit)
    return false;
  const auto type = datatype(op.out.scalar_type());
  if (!type) return false;
  void* in = op.in.data_ptr();
  void* out = op.out.data_ptr();
  const int count = static_cast<int>(op.in.numel());
  std::uint64_t volume = 0;  // sent by this rank, as the usual algorithm has it
  switch (op.kind) {
    case Collective::Kind::all_reduce:
      perform_native("MPI_Iallreduce", [&](MPI_Request* r) {
        return MPI_Iallreduce(MPI_IN_PLACE, out, count, *type, mpi_op(op.op), comm_, r);
      });
      if (op.op == ReduceOp::average)
        divide(static_cast<std::byte*>(out), op.out.numel(), op.out.scalar_type(), n);
      volume = 2 * op.in.nbytes() * static_cast<std::uint64_t>(n - 1) / static_cast<std::uint64_t>(n);
      break;
    case Collective::Kind::reduce_scatter:
      if (op.in.numel() != op.out.numel() * n) return false;  // ours explains it
      perform_native("MPI_Ireduce_scatter_block", [&](MPI_Request* r) {
        return MPI_Ireduce_scatter_block(in, out, static_cast<int>(op.out.numel()), *type, mpi_op(op.op),
                                         comm_, r);
      });
      if (op.op == ReduceOp::average)
        divide(static_cast<std::byte*>(out), op.out.numel(), op.out.scalar_type(), n);
      volume = op.out.nbytes() * static_cast<std::uint64_t>(n - 1);
      break;
    case Collective::Kind::all_gather:
      if (op.out.numel() != op.in.numel() * n) return false;
      perform_native("MPI_Iallgather", [&](MPI_Request* r) {
        return MPI_Iallgather(in, count, *type, out, count, *type, comm_, r);
      });
      volume = op.in.nbytes() * static_cast<std::uint64_t>(n - 1);
      break;
    case Collective::Kind::all_to_all:
      if (op.in.numel() % n != 0) return false;
      perform_native("MPI_Ialltoall", [&](MPI_Request* r) {
        return MPI_Ialltoall(in, count / n, *type, out, count / n, *type, comm_, r);
      });
      volume = op.in.nbytes() * static_cast<std::uint64_t>(n - 1) / static_cast<std::uint64_t>(n);
      break;
    case Collective::Kind::broadcast:
      perform_native("MPI_Ibcast",
                     [&](MPI_Request* r) { return MPI_Ibcast(out, count, *type, op.root, comm_, r); });
      volume = rank() == op.root ? op.in.nbytes() : 0;
      break;
    default:
      return false;
  }
  bytes_sent_ += volume;
  if (n > 1) estimated_ = true;
  return true;
}

std::optional<int> variable(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? std::optional<int>(std::atoi(text)) : std::nullopt;
}

}  // namespace

std::unique_ptr<Transport> connect() {
  return std::make_unique<MpiTransport>(MpiThread::get(), MPI_COMM_WORLD);
}

Local local_rank(Transport&) {
  const auto rank = variable("OMPI_COMM_WORLD_LOCAL_RANK");
  const auto size = variable("OMPI_COMM_WORLD_LOCAL_SIZE");
  if (rank && size) return {*rank, *size};
  Local local;
  MpiThread::get()->call([&] {  // blocks the MPI thread, at start-up, when nothing else is under way
    MPI_Comm host = MPI_COMM_NULL;
    check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host),
          "MPI_Comm_split_type");
    check(MPI_Comm_rank(host, &local.rank), "MPI_Comm_rank");
    check(MPI_Comm_size(host, &local.size), "MPI_Comm_size");
    check(MPI_Comm_free(&host), "MPI_Comm_free");
  });
  return local;
}

}  // namespace acp::mpi
