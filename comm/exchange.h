// An exchange: a coroutine that computes locally and describes, one after the other, the collectives it
// needs.
#pragma once

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "comm/collective.h"
#include "comm/communicator.h"

namespace acp {

// Runs local work up to the next collective, then hands it to whoever drives it. It never sees a
// communicator, a thread or a stream. Rules for the body (g++ 12 miscompiles the rest): `co_await` a plain
// call of one of the functions that make a Collective; a member function, never a lambda; no thread-local
// guard across a `co_await`.
class [[nodiscard]] Exchange {
 public:
  struct promise_type {
    std::optional<Collective> next;
    std::exception_ptr error;

    Exchange get_return_object() { return Exchange(Handle::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    std::suspend_always await_transform(Collective op) {  // only a Collective can be awaited
      next = std::move(op);
      return {};
    }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { error = std::current_exception(); }
  };

  // Runs to the next collective and returns it; empty once the exchange is complete. Rethrows what the body
  // threw.
  std::optional<Collective> advance() {
    auto& promise = frame_.get().promise();
    promise.next.reset();
    frame_.get().resume();
    if (promise.error) std::rethrow_exception(promise.error);
    return std::move(promise.next);
  }

 private:
  using Handle = std::coroutine_handle<promise_type>;
  struct Destroy {
    using pointer = Handle;
    void operator()(Handle h) const { h.destroy(); }
  };
  explicit Exchange(Handle h) : frame_(h) {}
  std::unique_ptr<promise_type, Destroy> frame_;
};

// The blocking driver, for tests and start-up: one exchange, one collective at a time.
inline void run(Exchange exchange, Communicator& communicator) {
  while (auto op = exchange.advance()) communicator.perform(*std::move(op));
}

}  // namespace acp
