// Ranks as threads over the local backend.
#pragma once

#include <functional>
#include <vector>

#include "comm/wire_communicator.h"

namespace acp {

// Calls body(communicator) on `n` threads, one for each rank, and joins them. The first exception that leaves
// a body aborts the other ranks and is rethrown here. Catch2's assertions are not for threads: throw instead.
void on_ranks(int n, const std::function<void(Communicator&)>& body);

// As above, with the sizes at which algorithms change their ways.
void on_ranks(int n, const Tuning& tuning, const std::function<void(WireCommunicator&)>& body);

// Under a sanitizer those up to `most` alone: more ranks do nothing that these do not, and take minutes.
inline std::vector<int> world_sizes(std::vector<int> sizes, [[maybe_unused]] int most) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  std::erase_if(sizes, [&](int n) { return n > most; });
#endif
  return sizes;
}

}  // namespace acp
