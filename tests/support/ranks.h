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

// Under a sanitizer those up to three: everything that ranks do to each other, which three can, in a quarter
// of the time.
inline std::vector<int> world_sizes(std::vector<int> sizes) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  std::erase_if(sizes, [](int n) { return n > 3; });
#endif
  return sizes;
}

}  // namespace acp
