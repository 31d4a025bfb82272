// Threads as ranks, joined, with the first of their errors.
#include "tests/support/ranks.h"

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "comm/local/local.h"

namespace acp {

void on_ranks(int n, const Tuning& tuning, const std::function<void(WireCommunicator&)>& body) {
  auto transports = local::transports(n);
  std::mutex mutex;
  std::exception_ptr first;
  {
    std::vector<std::jthread> threads;
    for (auto& transport : transports) {
      threads.emplace_back([&, t = std::move(transport)]() mutable {
        WireCommunicator communicator(std::move(t), tuning);
        try {
          body(communicator);
        } catch (...) {
          {
            const std::lock_guard lock(mutex);
            if (!first) first = std::current_exception();
          }
          communicator.abort(std::current_exception());
        }
      });
    }
  }
  if (first) std::rethrow_exception(first);
}

void on_ranks(int n, const std::function<void(Communicator&)>& body) {
  on_ranks(n, Tuning{}, [&](WireCommunicator& c) { body(c); });
}

}  // namespace acp
