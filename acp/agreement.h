// Checks that all ranks mean the same thing, and small transfers of bytes: what start-up and checkpoints
// need. All functions are collective calls on the channel.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"

namespace acp {

// Every rank brings its lines, e.g. "fc.weight [10, 50] Float". Throws the same ConfigError on all ranks
// unless they are equal: `what` differs (e.g. "parameter"), at which place, and what rank 0 and the others
// have there. Sends 8 bytes when they are equal.
void check_agreement(Communicator& channel, std::string_view what, const std::vector<std::string>& lines);

// The bytes of every rank, in rank order.
std::vector<std::string> all_gather_bytes(Communicator& channel, std::string_view mine);

// `bytes` of `root`, on every rank. ConfigError if there is no such rank.
std::string broadcast_bytes(Communicator& channel, std::string_view bytes, int root = 0);

// Runs `work` on every rank and returns if none threw; else throws on every rank: on those that failed what
// they threw, on the others an exception of the same class (ConfigError, DataError, CommunicationError or
// Error) that names the first rank that failed and quotes it.
void together(Communicator& channel, const std::function<void()>& work);

}  // namespace acp
