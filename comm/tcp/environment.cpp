// Who this process is, from what torchrun, a shell loop or mpirun has put into its environment.
#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <string>

#include "comm/error.h"
#include "comm/tcp/tcp.h"

namespace acp::tcp {

namespace {

std::string text(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The first of `names` that is set; ConfigError if it is no integer from `least` to `most`.
std::optional<int> number(std::initializer_list<const char*> names, int least, int most) {
  for (const char* name : names) {
    const std::string value = text(name);
    if (value.empty()) continue;
    int result = 0;
    const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (code != std::errc() || end != value.data() + value.size() || result < least || result > most) {
      throw ConfigError("[tcp] " + std::string(name) + "=\"" + value + "\" is no number from " +
                        std::to_string(least) + " to " + std::to_string(most));
    }
    return result;
  }
  return std::nullopt;
}

}  // namespace

Endpoint endpoint_from_environment() {
  constexpr int many = 1'000'000;
  const auto rank = number({"RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}, 0, many);
  const auto size = number({"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}, 1, many);
  if (!rank || !size) {
    throw ConfigError(
        std::string("[tcp] ") + (rank ? "WORLD_SIZE" : "RANK") +
        " is not set: the tcp backend needs RANK and WORLD_SIZE (and MASTER_ADDR, MASTER_PORT), as "
        "torchrun or mpirun set them");
  }
  Endpoint endpoint;
  endpoint.rank = *rank;
  endpoint.size = *size;
  if (!text("MASTER_ADDR").empty()) endpoint.master_address = text("MASTER_ADDR");
  endpoint.master_port = number({"MASTER_PORT"}, 1, 65535).value_or(endpoint.master_port);
  endpoint.interface = text("ACP_INTERFACE");
  endpoint.secret = text("ACP_SECRET");
  endpoint.local_sockets = number({"ACP_SHARED_MEMORY"}, 0, 1).value_or(1) != 0;
  endpoint.streams = number({"ACP_STREAMS"}, 1, 64).value_or(endpoint.streams);
  const std::string run = text("TORCHELASTIC_RUN_ID");
  if (!run.empty()) endpoint.prefix = run + "/" + text("TORCHELASTIC_RESTART_COUNT");
  const std::string agent = text("TORCHELASTIC_USE_AGENT_STORE");
  endpoint.agent_store = agent == "True" || agent == "true" || agent == "1";
  return endpoint;
}

}  // namespace acp::tcp
