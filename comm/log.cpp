// Lines on standard error through spdlog, without its decoration.
#include "comm/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>

#include "comm/error.h"

namespace acp {

namespace {

spdlog::level::level_enum threshold() {
  const char* text = std::getenv("ACP_LOG");
  if (text == nullptr || *text == '\0') return spdlog::level::info;
  const std::string name = text;
  const auto level = spdlog::level::from_str(name);  // "off" for what it does not know
  if (level == spdlog::level::off && name != "off") {
    throw ConfigError("ACP_LOG=\"" + name +
                      "\" is no level; there are: trace, debug, info, warn, error, off");
  }
  return level;
}

void log(spdlog::level::level_enum level, const std::string& line) {
  static const auto logger = [] {
    auto made = std::make_shared<spdlog::logger>("acp", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->set_level(spdlog::level::trace);
    return made;
  }();
  if (level >= threshold()) logger->log(level, line);
}

}  // namespace

void check_log_level() {
  threshold();
}
void log_debug(const std::string& line) {
  log(spdlog::level::debug, line);
}
void log_info(const std::string& line) {
  log(spdlog::level::info, line);
}
void log_warning(const std::string& line) {
  log(spdlog::level::warn, line);
}

}  // namespace acp
