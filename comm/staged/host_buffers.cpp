// See host_buffers.h.
#include "comm/staged/host_buffers.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace acp {

namespace {

// Two for each round that is on its way there, on the wire, or on its way back.
constexpr std::size_t enough = 12;

}  // namespace

at::Tensor HostBuffers::take(std::int64_t numel, at::ScalarType type) {
  const auto bytes = numel * static_cast<std::int64_t>(c10::elementSize(type));
  const auto fits = [&](const Spare& s) { return s.bytes.numel() >= bytes; };
  auto found =
      std::ranges::find_if(spare_, [&](const Spare& s) { return fits(s) && (!s.busy || s.busy->reached()); });
  if (found == spare_.end() && made_ >= enough) {
    found = std::ranges::find_if(spare_, fits);
    if (found == spare_.end() && !spare_.empty()) {  // all too short: one makes room for a longer one
      wait_(spare_.front().busy);
      spare_.erase(spare_.begin());
      found = spare_.end();
      --made_;
    }
  }
  at::Tensor memory;
  if (found != spare_.end()) {
    wait_(found->busy);
    memory = std::move(found->bytes);
    spare_.erase(found);
  } else {
    memory = copies_.host_bytes(std::max<std::int64_t>(bytes, 4096));
    ++made_;
  }
  return memory.narrow(0, 0, bytes).view(type);
}

void HostBuffers::give_back(const at::Tensor& taken, MarkPtr busy) {
  const auto bytes = static_cast<std::int64_t>(taken.storage().nbytes());
  at::Tensor whole = at::empty({0}, taken.options().dtype(at::kByte)).set_(taken.storage(), 0, {bytes}, {1});
  spare_.push_back({std::move(whole), std::move(busy)});
}

}  // namespace acp
