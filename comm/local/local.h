// The `local` backend: ranks as threads of one process, messages through memory. What most tests use.
#pragma once

#include <memory>
#include <vector>

#include "comm/transport.h"

namespace acp::local {

// Transports of `size` ranks that share one hub, in rank order; each is then used by its own thread.
std::vector<std::unique_ptr<Transport>> transports(int size);

}  // namespace acp::local
