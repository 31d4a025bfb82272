// Ranks as threads over the local backend.
#pragma once

#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "comm/local/local.h"
#include "comm/wire_communicator.h"

namespace acp {

inline void on_ranks(int n, const std::function<void(Communicator&)>& body) {
  auto transports = local::transports(n);
  std::mutex mutex;
  std::exception_ptr first;
  {
    std::vector<std::jthread> threads;
    for (auto& transport : transports) {
      threads.emplace_back([&, t = std::move(transport)]() mutable {
        WireCommunicator communicator(std::move(t));
        try {
          body(communicator);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
          communicator.abort(std::current_exception());
        }
      });
    }
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace acp
