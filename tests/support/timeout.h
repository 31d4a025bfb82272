// ACP_TIMEOUT for the length of a scope.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

namespace acp::test {

// Set before ranks are started and unset after they have ended: the environment is not for threads.
class Timeout {
 public:
  explicit Timeout(const std::string& seconds) {
    if (const char* before = std::getenv("ACP_TIMEOUT")) before_ = before;
    setenv("ACP_TIMEOUT", seconds.c_str(), 1);
  }
  ~Timeout() {
    if (before_) {
      setenv("ACP_TIMEOUT", before_->c_str(), 1);
    } else {
      unsetenv("ACP_TIMEOUT");
    }
  }
  Timeout(const Timeout&) = delete;
  Timeout& operator=(const Timeout&) = delete;

 private:
  std::optional<std::string> before_;
};

}  // namespace acp::test
