// Checks that all ranks mean the same thing: compares a list of lines and names the first difference.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"

namespace acp {

// Every rank brings its lines, e.g. "fc.weight [10, 50] float32". Throws the same ConfigError on all ranks
// unless they are equal: what differs (`what`, e.g. "parameter"), where, and what each of the two ranks has.
// Sends 16 bytes when they are equal.
void check_agreement(Communicator& channel, std::string_view what, const std::vector<std::string>& lines);

// The bytes of every rank, in rank order.
std::vector<std::string> all_gather_bytes(Communicator& channel, std::string_view mine);

// `bytes` of rank 0, on every rank.
std::string broadcast_bytes(Communicator& channel, std::string_view bytes, int root = 0);

}  // namespace acp
