// The deadline of every wait, from the environment.
#include "comm/deadline.h"

#include <cmath>
#include <cstdlib>
#include <string>

#include "comm/error.h"

namespace acp {

std::chrono::milliseconds wait_timeout() {
  constexpr double default_seconds = 300, longest_seconds = 1e9;
  const char* text = std::getenv("ACP_TIMEOUT");
  if (text == nullptr || *text == '\0') {
    return std::chrono::milliseconds(static_cast<std::int64_t>(default_seconds * 1000));
  }
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (*end != '\0' || !(seconds > 0) || !std::isfinite(seconds)) {
    throw ConfigError("ACP_TIMEOUT is \"" + std::string(text) +
                      "\"; it must be a positive number of seconds, such as 300 or 0.5");
  }
  return std::chrono::milliseconds(
      static_cast<std::int64_t>(std::ceil(std::min(seconds, longest_seconds) * 1000)));
}

std::string timeout_text() {
  std::string text = std::to_string(static_cast<double>(wait_timeout().count()) / 1000.0);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text + " s (ACP_TIMEOUT)";
}

}  // namespace acp
