// In place of the tcp backend in builds without it.
#include "comm/error.h"
#include "comm/tcp/tcp.h"

namespace acp::tcp {

Endpoint endpoint_from_environment() { return {}; }

std::unique_ptr<Transport> connect(const Endpoint&) { throw ConfigError("built without the tcp backend: use mpi"); }

}  // namespace acp::tcp
