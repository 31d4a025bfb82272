// What the library says while it runs: lines on standard error, down to the level that ACP_LOG names.
#pragma once

#include <string>

namespace acp {

// ACP_LOG is trace, debug, info (the default), warn, error or off; ConfigError for anything else. Callable
// from any thread; the level is read each time.
void check_log_level();
void log_debug(const std::string& line);
void log_info(const std::string& line);
void log_warning(const std::string& line);

}  // namespace acp
