// The deadline of every wait: ACP_TIMEOUT seconds (default 300).
#pragma once

#include <chrono>
#include <string>

namespace acp {

// Reads ACP_TIMEOUT each time (tests change it); ConfigError if it is not a positive number.
std::chrono::milliseconds wait_timeout();

// "300 s (ACP_TIMEOUT)", for messages.
std::string timeout_text();

}  // namespace acp
