// Which machine this process runs on.
#pragma once

#include <string>

namespace acp {

// The same text on two processes means the same machine (host name and boot). ACP_HOST_ID, where set, takes
// its place: ranks with the same value share a host.
std::string host_identity();

}  // namespace acp
