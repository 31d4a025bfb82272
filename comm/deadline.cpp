// ACP_TIMEOUT, read anew for each wait.
#include "comm/deadline.h"

#include <cmath>
#include <cstdlib>
#include <string>

#include "comm/error.h"

namespace acp {

std::chrono::milliseconds wait_timeout() {
  const char* text = std::getenv("ACP_TIMEOUT");
  if (text == nullptr || *text == '\0') return std::chrono::seconds(300);
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (*end != '\0' || !(seconds > 0) || seconds > 1e7) {
    throw ConfigError("ACP_TIMEOUT=\"" + std::string(text) +
                      "\" is not a number of seconds between 0 and 1e7");
  }
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(seconds * 1000)));
}

}  // namespace acp
