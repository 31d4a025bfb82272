// The deadline of every wait: ACP_TIMEOUT seconds (default 300).
#pragma once

#include <chrono>

namespace acp {

// Reads ACP_TIMEOUT each time (tests change it); ConfigError if it is not a positive number.
std::chrono::milliseconds wait_timeout();

}  // namespace acp
