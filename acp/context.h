// The ranks that train together: who we are, how we talk. Everything else hangs off a Context.
#pragma once

#include <ATen/core/Tensor.h>

#include <exception>
#include <functional>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/link_cost.h"
#include "fusion/events.h"

namespace acp {

class UserQueue;

// What init() is told; empty or absent means: decide by the environment.
class InitOptions {
 public:
  // "auto", "mpi", "tcp", "nccl", "local" (one rank).
  InitOptions& backend(std::string name) { return backend_ = std::move(name), *this; }
  // "cpu", "cuda" (the default of nccl); cuda takes the device of local_rank(), which ranks share where they
  // are more than there are GPUs, except with nccl.
  InitOptions& device(std::string name) { return device_ = std::move(name), *this; }
  const std::string& backend() const { return backend_; }
  const std::string& device() const { return device_; }

 private:
  std::string backend_, device_;
};

// RAII: the backend lives as long as the Context and the channels opened from it. Movable. Destroyed at the
// end of a program it first finishes asynchronous collectives that nobody waited for; destroyed by an
// exception it aborts the other ranks instead of leaving them to wait.
class Context {
 public:
  struct State;
  explicit Context(std::shared_ptr<State> state);
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;
  ~Context();

  int rank() const;
  int size() const;
  int local_rank() const;  // among the ranks of this host
  int local_size() const;
  at::Device device() const;
  std::string backend() const;

  // Opens a channel; a collective call, in program order.
  std::unique_ptr<Communicator> open_channel() const;
  // For plans, hashes and state of the library; blocking operations only.
  Communicator& control_channel() const;
  // The channel of the free functions of collectives.h, broadcast.h and checkpoint.h. Waits until the
  // asynchronous ones among them have ended, so what is started on it next keeps the order.
  Communicator& user_channel() const;
  // Where those functions queue their work.
  UserQueue& user_queue() const;

  // Bytes sent by this rank on all channels opened from this context so far; `estimated` if some were native.
  Communicator::Traffic traffic() const;
  // Where engines report to when the environment variable ACP_TRACE names a file (see trace.h); empty
  // otherwise.
  EventSink events() const;
  // What a message costs between these ranks: ACP_LINK of rank 0, else measured by init(); the same on all
  // ranks.
  const LinkCost& link_cost() const;
  // Fails everything pending, here and on the peers.
  void abort(std::exception_ptr reason) const noexcept;

 private:
  std::shared_ptr<State> state_;
};

// What init() refuses on every rank alike, before anything is connected: the device, the backend's name, a
// backend that this build lacks, ACP_TIMEOUT, ACP_LOG. ConfigError. Programs ask first, so that rank 0 alone
// speaks.
void check(const InitOptions& options);

// Backend: InitOptions, else ACP_BACKEND, else RANK and WORLD_SIZE -> tcp, else a launcher's variables
// (OMPI_COMM_WORLD_*, PMIX_RANK, PMI_RANK) -> mpi, else one rank. Sets torch's threads to
// max(1, usable cores / local ranks) unless OMP_NUM_THREADS is set. ConfigError when called while a Context
// of an earlier call lives.
Context init(const InitOptions& options = {});

// Runs `body` on n ranks as threads of this process; returns when all have ended. If some throw, the others
// are aborted and the first exception (by time) is rethrown; a CommunicationError counts only if there is
// nothing else, since one rank's failure causes them on the others. torch's threads are divided among the
// ranks meanwhile.
void run_local(int n, const std::function<void(Context&)>& body);

// The context bound to the calling thread (inside run_local), else the process's; Error says to call init()
// first.
Context& current_context();

int rank();
int size();
int local_rank();
int local_size();

}  // namespace acp
