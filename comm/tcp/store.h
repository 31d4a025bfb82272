// c10d's TCPStore with deadlines that hold and without its log.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "comm/tcp/socket.h"

namespace acp::tcp {

// The connection to the store broke, or what listens there is no store.
struct StoreLost : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// The store did not answer in time.
struct StoreSilent : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Some of TCPStore's calls block without a limit when the other side accepts connections and then says
// nothing, so each runs on a thread of its own; one that overstays its deadline is left behind (it holds the
// store alive and nothing else). While a call runs, c10d's warnings are off.
class Store {
 public:
  // Serves on a socket that listens already (taken over) and is its own first client.
  static Store serve(Fd listener, const std::string& prefix);
  static Store join(const Address& server, const std::string& prefix, Clock::time_point deadline);

  // Adds to a counter and returns its new value.
  std::int64_t add(const std::string& key, std::int64_t amount, Clock::time_point deadline);
  void set(const std::string& key, const std::string& value, Clock::time_point deadline);
  // Blocks until the key is there; false at the deadline.
  bool wait(const std::string& key, Clock::time_point deadline);
  std::string get(const std::string& key, Clock::time_point deadline);
  void erase(const std::string& key, Clock::time_point deadline);

 private:
  struct Impl;
  Store(std::shared_ptr<Impl> impl, std::string prefix);
  std::shared_ptr<Impl> impl_;
  std::string prefix_;
};

}  // namespace acp::tcp
