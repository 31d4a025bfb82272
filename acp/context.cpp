// Contexts: start of the backend, the channels made from it, and the binding of threads to ranks.
#include "acp/context.h"

#include <ATen/Parallel.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "acp/agreement.h"
#include "acp/environment.h"
#include "comm/error.h"
#include "comm/local/local.h"
#include "comm/mpi/mpi.h"
#include "comm/tcp/tcp.h"
#include "comm/wire_communicator.h"

namespace acp {

struct Context::State {
  std::unique_ptr<Communicator> root, user, control;
  std::mutex opening;  // channels are opened from one thread at a time
  LocalPlace place;
  at::Device device = at::kCPU;
  std::string backend;
  int exceptions_at_start = 0;
};

namespace {

std::mutex process_mutex;
Context* process_context = nullptr;  // of init(); the one global: who we are
thread_local Context* thread_context = nullptr;

// Ranks with this host's name, in rank order.
LocalPlace place_by_host(Communicator& channel) {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  const std::vector<std::string> names = all_gather_bytes(channel, name);
  LocalPlace place{0, 0};
  for (std::size_t r = 0; r < names.size(); ++r) {
    if (names[r] != names[static_cast<std::size_t>(channel.rank())]) continue;
    ++place.size;
    place.rank += static_cast<int>(r) < channel.rank();
  }
  return place;
}

std::shared_ptr<Context::State> make_state(std::unique_ptr<Transport> transport, const std::string& backend,
                                           std::optional<LocalPlace> place) {
  auto state = std::make_shared<Context::State>();
  state->backend = backend;
  state->root = std::make_unique<WireCommunicator>(std::move(transport));
  state->control = state->root->channel();
  state->user = state->root->channel();
  state->place = place ? *place : place_by_host(*state->control);
  state->exceptions_at_start = std::uncaught_exceptions();
  return state;
}

std::unique_ptr<Transport> connect(const std::string& backend) {
  if (backend == "mpi") return mpi::connect();
  if (backend == "tcp") return tcp::connect(tcp::endpoint_from_environment());
  if (backend == "nccl") throw ConfigError("built without NCCL: use the backend mpi or tcp");
  return std::move(local::transports(1).front());
}

}  // namespace

Context::Context(std::shared_ptr<State> state) : state_(std::move(state)) {}

Context::Context(std::shared_ptr<State> state, OfProcess) : state_(std::move(state)) {
  const std::lock_guard lock(process_mutex);
  process_context = this;
}

Context::Context(Context&& other) noexcept : state_(std::move(other.state_)) {
  const std::lock_guard lock(process_mutex);
  if (process_context == &other) process_context = this;
  if (thread_context == &other) thread_context = this;
}

Context& Context::operator=(Context&& other) noexcept {
  if (this != &other) {
    const Context old(std::move(*this));  // ends what this one was
    state_ = std::move(other.state_);
    const std::lock_guard lock(process_mutex);
    if (process_context == &other) process_context = this;
    if (thread_context == &other) thread_context = this;
  }
  return *this;
}

Context::~Context() {
  if (state_ && std::uncaught_exceptions() > state_->exceptions_at_start) {
    abort(std::make_exception_ptr(CommunicationError(
        "rank " + std::to_string(rank()) + " ended with an exception; its own message says which")));
  }
  const std::lock_guard lock(process_mutex);
  if (process_context == this) process_context = nullptr;
  if (thread_context == this) thread_context = nullptr;
}

int Context::rank() const {
  return state_->root->rank();
}
int Context::size() const {
  return state_->root->size();
}
int Context::local_rank() const {
  return state_->place.rank;
}
int Context::local_size() const {
  return state_->place.size;
}
at::Device Context::device() const {
  return state_->device;
}
std::string Context::backend() const {
  return state_->backend;
}

std::unique_ptr<Communicator> Context::open_channel() const {
  const std::lock_guard lock(state_->opening);
  return state_->root->channel();
}
Communicator& Context::user_channel() const {
  return *state_->user;
}
Communicator& Context::control_channel() const {
  return *state_->control;
}
void Context::abort(std::exception_ptr reason) const noexcept {
  state_->root->abort(std::move(reason));
}

Context init(const InitOptions& options) {
  {
    const std::lock_guard lock(process_mutex);
    if (process_context != nullptr)
      throw ConfigError("acp::init() was called twice; keep the Context of the first call");
  }
  const Environment environment = process_environment();
  const std::string backend = choose_backend(options.backend(), environment);
  if (options.device() != "cpu") {
    throw ConfigError("device \"" + options.device() + "\": this build runs on the CPU only; use device cpu");
  }
  auto state = make_state(connect(backend), backend, local_place(environment));
  if (!environment("OMP_NUM_THREADS")) {
    at::set_num_threads(std::max(1, usable_cores() / state->place.size));
  }
  return Context(std::move(state), Context::OfProcess{});
}

void run_local(int n, const std::function<void(Context&)>& body) {
  if (n < 1)
    throw ConfigError("run_local: the number of ranks is " + std::to_string(n) + "; it must be at least 1");
  auto transports = local::transports(n);
  std::mutex mutex;
  std::exception_ptr first;
  {
    std::vector<std::jthread> ranks;  // joined at the end of this block
    for (int r = 0; r < n; ++r) {
      ranks.emplace_back([&, r, transport = std::move(transports[static_cast<std::size_t>(r)])]() mutable {
        try {
          Context context(make_state(std::move(transport), "local", LocalPlace{r, n}));
          thread_context = &context;
          try {
            body(context);
          } catch (...) {
            {
              const std::lock_guard lock(mutex);
              if (!first) first = std::current_exception();
            }
            context.abort(std::current_exception());
          }
          thread_context = nullptr;
        } catch (...) {  // an aborted start
          const std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
        }
      });
    }
  }
  if (first) std::rethrow_exception(first);
}

Context& current_context() {
  if (thread_context != nullptr) return *thread_context;
  const std::lock_guard lock(process_mutex);
  if (process_context == nullptr) throw Error("no context: call acp::init() first and keep what it returns");
  return *process_context;
}

int rank() {
  return current_context().rank();
}
int size() {
  return current_context().size();
}
int local_rank() {
  return current_context().local_rank();
}
int local_size() {
  return current_context().local_size();
}

}  // namespace acp
