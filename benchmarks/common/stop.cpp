// See stop.h.
#include "benchmarks/common/stop.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <csignal>

namespace acp::programs {

namespace {

// A signal handler can reach nothing else.
volatile std::sig_atomic_t signal_noted = 0;

extern "C" void note(int signal) {
  signal_noted = signal;
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace

StopRequest::StopRequest() {
  signal_noted = 0;
  std::signal(SIGINT, note);
  std::signal(SIGTERM, note);
}

StopRequest::~StopRequest() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

bool StopRequest::noted() const {
  return signal_noted != 0;
}

int StopRequest::poll_now(const Context& context) {
  until_next_ = 1;
  return poll(context);
}

int StopRequest::poll(const Context& context) {
  if (context.size() == 1) return signal_noted;
  if (--until_next_ > 0) return 0;

  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - last_;
  last_ = std::chrono::steady_clock::now();
  const double per_step = std::max(elapsed.count() / static_cast<double>(interval_), 1e-6);
  auto message = at::zeros({2}, at::kLong);
  message[0] = static_cast<std::int64_t>(signal_noted);
  if (context.rank() == 0)
    message[1] = std::clamp(static_cast<std::int64_t>(0.25 / per_step), std::int64_t{1}, std::int64_t{1000});
  perform(context.user_channel(), Collective::all_reduce(message, ReduceOp::max));
  interval_ = until_next_ = static_cast<std::uint64_t>(message[1].item<std::int64_t>());
  return static_cast<int>(message[0].item<std::int64_t>());
}

}  // namespace acp::programs
