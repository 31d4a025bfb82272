// Contexts: start of the backend, the channels made from it, and the binding of threads to ranks.
#include "acp/context.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "acp/agreement.h"
#include "acp/counted_channel.h"
#include "acp/device.h"
#include "acp/environment.h"
#include "acp/trace.h"
#include "acp/user_queue.h"
#include "comm/algorithms/choice.h"
#include "comm/algorithms/hosts.h"
#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/host.h"
#include "comm/link_cost.h"
#include "comm/local/local.h"
#include "comm/log.h"
#include "comm/mpi/mpi.h"
#include "comm/nccl/nccl.h"
#include "comm/tcp/tcp.h"
#include "comm/wire_communicator.h"

namespace acp {

struct Context::State {
  std::shared_ptr<Ledger> ledger = std::make_shared<Ledger>();
  std::unique_ptr<Communicator> control, user;
  std::mutex opening;  // channels are opened from one thread at a time
  LocalPlace place;
  at::Device device = at::kCPU;
  std::string backend;
  LinkCost link;
  int exceptions_at_start = std::uncaught_exceptions();
  std::optional<Trace> trace;
  std::optional<UserQueue> queue;  // last: ends before its channel
};

namespace {

// The one global: the Context that init() returned, wherever it has been moved to.
std::mutex process_mutex;
Context* process_context = nullptr;
thread_local Context* thread_context = nullptr;

// Among the ranks on this machine, in rank order.
LocalPlace place_by_host(std::span<const int> host_of, int rank) {
  const auto me = host_of.begin() + rank;
  return {static_cast<int>(std::count(host_of.begin(), me, *me)),
          static_cast<int>(std::ranges::count(host_of, *me))};
}

std::shared_ptr<Context::State> make_state(std::unique_ptr<Communicator> first, std::string backend,
                                           const Variables& environment) {
  auto state = std::make_shared<Context::State>();
  state->backend = std::move(backend);
  state->control = std::make_unique<CountedChannel>(std::move(first), state->ledger);
  state->user = state->control->channel();
  state->queue.emplace(*state->user);
  if (const auto file = environment("ACP_TRACE")) state->trace.emplace(*file, state->control->rank());
  return state;
}

// Ranks that a launcher started together, and that each train alone.
void warn_of_launcher(const Variables& environment) {
  for (const char* name : {"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const auto size = environment(name);
    if (!size || *size == "1") continue;
    log_warning("this process is alone, although " + std::string(name) + "=" + *size +
                ": the backend \"local\" joins no processes");
    return;
  }
  if (environment("RANK") && !environment("WORLD_SIZE")) {
    log_warning("this process is alone, although RANK=" + *environment("RANK") +
                ": WORLD_SIZE is not set, so the backend is \"local\"; set both for tcp");
  }
}

std::optional<LinkCost> given_link(const Variables& environment) {
  const auto text = environment("ACP_LINK");
  return text ? std::optional(parse_link_cost(*text)) : std::nullopt;
}

struct Connected {
  std::unique_ptr<Communicator> channel;
  LinkCost link;
  bool direct = false;  // reaches_devices()
};

// With the sizes that suit the network.
Connected over(std::unique_ptr<Transport> transport, const std::string& device,
               const Variables& environment) {
  Transport& below = *transport;
  auto channel = std::make_unique<WireCommunicator>(std::move(transport));
  if (channel->size() == 1) return {std::move(channel), {}};
  const std::vector<int> hosts = number_hosts(all_gather_bytes(*channel, host_identity()));
  const LinkCost link = agree_link_cost(*channel->channel(), given_link(environment), hosts);
  channel->tune(tuning_for(link, hosts));
  const bool direct = device != "cpu" && reaches_devices(below, *channel, environment);
  return {std::move(channel), link, direct};
}

Connected connect(const std::string& backend, const std::string& device, const Variables& environment) {
  if (backend == "mpi") return over(mpi::connect(), device, environment);
  if (backend == "tcp") return over(tcp::connect(tcp::endpoint_from_environment()), device, environment);
  if (backend == "nccl") {
    const auto without = [&](const std::string& name) {
      return name == "ACP_BACKEND" ? std::nullopt : environment(name);
    };
    LinkCost link;  // NCCL's own is not known, but which ranks share hosts
    auto channel = nccl::connect([&] {
      auto below = connect(choose_backend("auto", without), "cpu", environment);
      link.host_of = below.link.host_of;
      return std::move(below.channel);
    });
    return {std::move(channel), link};
  }
  return {std::make_unique<WireCommunicator>(std::move(local::transports(1).front())), {}};
}

// torch's threads, divided among ranks that are threads of one process, and back.
class DividedThreads {
 public:
  explicit DividedThreads(int ranks) : before_(at::get_num_threads()) {
    at::set_num_threads(std::max(1, before_ / ranks));
  }
  ~DividedThreads() { at::set_num_threads(before_); }
  DividedThreads(const DividedThreads&) = delete;
  DividedThreads& operator=(const DividedThreads&) = delete;

 private:
  int before_;
};

// The failures of ranks that are threads: which one the caller learns of.
class Failures {
 public:
  // Of the exception that is being handled.
  void add() {
    const std::lock_guard lock(mutex_);
    if (!first_) first_ = std::current_exception();
    if (cause_) return;
    try {
      throw;
    } catch (const CommunicationError&) {
    } catch (...) {
      cause_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (cause_) std::rethrow_exception(cause_);
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_, cause_;
};

// Binds the thread to a context for as long as it lives.
class BoundThread {
 public:
  explicit BoundThread(Context& context) { thread_context = &context; }
  ~BoundThread() { thread_context = nullptr; }
  BoundThread(const BoundThread&) = delete;
  BoundThread& operator=(const BoundThread&) = delete;
};

}  // namespace

Context::Context(std::shared_ptr<State> state) : state_(std::move(state)) {}

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
  {
    const std::lock_guard lock(process_mutex);
    if (process_context == this) process_context = nullptr;
    if (thread_context == this) thread_context = nullptr;
  }
  if (state_ && std::uncaught_exceptions() > state_->exceptions_at_start) {
    abort(std::make_exception_ptr(
        PeerError(rank(), "[" + backend() + "] rank " + std::to_string(rank()) +
                              " ended with an exception; its own message says which")));
  }
}

int Context::rank() const {
  return state_->control->rank();
}
int Context::size() const {
  return state_->control->size();
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

const LinkCost& Context::link_cost() const {
  return state_->link;
}

std::unique_ptr<Communicator> Context::open_channel() const {
  const std::lock_guard lock(state_->opening);
  return state_->control->channel();
}
Communicator& Context::control_channel() const {
  return *state_->control;
}
Communicator& Context::user_channel() const {
  state_->queue->drain();
  return *state_->user;
}
UserQueue& Context::user_queue() const {
  return *state_->queue;
}
Communicator::Traffic Context::traffic() const {
  return state_->ledger->total();
}
EventSink Context::events() const {
  return state_->trace ? state_->trace->sink() : EventSink();
}
void Context::abort(std::exception_ptr reason) const noexcept {
  if (state_) state_->control->abort(std::move(reason));
}

void check(const InitOptions& options) {
  check_device(options.device(), choose_backend(options.backend(), process_variables()));
  wait_timeout();
  given_link(process_variables());
  check_log_level();
}

Context init(const InitOptions& options) {
  {
    const std::lock_guard lock(process_mutex);
    if (process_context != nullptr)
      throw ConfigError("acp::init() was called twice; keep the Context that the first call returned");
  }
  check(options);
  const Variables environment = process_variables();
  const std::string backend = choose_backend(options.backend(), environment);
  const std::string device = check_device(options.device(), backend);
  const auto place = local_place(environment);
  auto connected = connect(backend, device, environment);
  auto state =
      make_state(reach_device(std::move(connected.channel), device, connected.direct), backend, environment);
  state->link = connected.link;
  if (state->control->size() > 1)
    state->place = place ? *place : place_by_host(state->link.host_of, state->control->rank());
  together(*state->control, [&] { state->device = take_device(device, backend, state->place); });
  if (!environment("OMP_NUM_THREADS")) {
    at::set_num_threads(std::max(1, usable_cores() / state->place.size));
  }
  if (state->control->size() == 1) warn_of_launcher(environment);
  log_debug("[" + backend + "] rank " + std::to_string(state->control->rank()) + " of " +
            std::to_string(state->control->size()) + ", " + std::to_string(state->place.rank) + " of " +
            std::to_string(state->place.size) + " on this host, " + std::to_string(at::get_num_threads()) +
            " threads; latency " + std::to_string(state->link.latency * 1e6) + " us, " +
            std::to_string(8e-9 / state->link.seconds_per_byte) + " Gbit/s");

  Context context(std::move(state));
  {
    // Not beyond: returning may move the context, and the move takes the same mutex.
    const std::lock_guard lock(process_mutex);
    process_context = &context;
  }
  return context;
}

void run_local(int n, const std::function<void(Context&)>& body) {
  if (n < 1) {
    throw ConfigError("run_local: the number of ranks is " + std::to_string(n) + "; it must be at least 1");
  }
  const Variables environment = process_variables();
  LinkCost link = given_link(environment).value_or(LinkCost());
  link.host_of.assign(static_cast<std::size_t>(n), 0);
  std::optional<DividedThreads> divided;
  if (!environment("OMP_NUM_THREADS")) divided.emplace(n);
  auto transports = local::transports(n);
  Failures failures;
  {
    std::vector<std::jthread> ranks;  // joined at the end of this block
    ranks.reserve(static_cast<std::size_t>(n));
    for (int r = 0; r < n; ++r) {
      ranks.emplace_back([&, r, transport = std::move(transports[static_cast<std::size_t>(r)])]() mutable {
        try {
          auto state = make_state(
              std::make_unique<WireCommunicator>(std::move(transport), tuning_for(link, link.host_of)),
              "local", environment);
          state->place = {r, n};
          state->link = link;
          Context context(std::move(state));
          const BoundThread bound(context);
          try {
            body(context);
          } catch (...) {
            failures.add();
            context.abort(std::current_exception());
          }
        } catch (...) {  // at the start
          failures.add();
        }
      });
    }
  }
  failures.rethrow();
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
