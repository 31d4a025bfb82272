// The ranks that train together: who we are, how we talk. Everything else hangs off a Context.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>

#include "comm/communicator.h"

namespace acp {

// What init() is told; empty or absent means: decide by the environment.
class InitOptions {
 public:
  // "auto", "mpi", "tcp", "nccl", "local" (one rank).
  InitOptions& backend(std::string name) { return backend_ = std::move(name), *this; }
  // "cpu", "cuda"; cuda takes the device of local_rank().
  InitOptions& device(std::string name) { return device_ = std::move(name), *this; }
  const std::string& backend() const { return backend_; }
  const std::string& device() const { return device_; }

 private:
  std::string backend_, device_ = "cpu";
};

// RAII: the backend lives as long as the Context and everything made from it (channels keep it alive).
// Movable. Destroyed by an exception it aborts the other ranks instead of waiting for them.
class Context {
 public:
  struct State;         // shared with reducers, which may outlive the object
  struct OfProcess {};  // tag: becomes the process's context
  explicit Context(std::shared_ptr<State> state);
  Context(std::shared_ptr<State> state, OfProcess);
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;
  ~Context();

  int rank() const;
  int size() const;
  int local_rank() const;
  int local_size() const;
  at::Device device() const;
  std::string backend() const;

  // Opens a channel; a collective call, in program order.
  std::unique_ptr<Communicator> open_channel() const;
  // The channel of the free functions of collectives.h, and the one for plans, hashes and state.
  Communicator& user_channel() const;
  Communicator& control_channel() const;
  // Fails everything pending, here and on the peers.
  void abort(std::exception_ptr reason) const noexcept;

 private:
  std::shared_ptr<State> state_;
};

// Backend: InitOptions, else ACP_BACKEND, else RANK and WORLD_SIZE -> tcp, else a launcher's variables
// (OMPI_COMM_WORLD_*, PMIX_RANK, PMI_RANK) -> mpi, else one rank. Sets torch's threads to
// max(1, usable cores / local ranks) unless OMP_NUM_THREADS is set. ConfigError when called twice.
Context init(const InitOptions& options = {});

// Runs `body` on n ranks as threads of this process; returns when all have ended. If some throw, the others
// are aborted and the first exception (by time) is rethrown.
void run_local(int n, const std::function<void(Context&)>& body);

// The context bound to the calling thread (inside run_local), else the process's; Error says to call init()
// first.
Context& current_context();

int rank();
int size();
int local_rank();
int local_size();

}  // namespace acp
