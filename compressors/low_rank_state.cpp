// What low-rank compressors keep over a restart, or show to those who ask.
#include <ATen/ATen.h>

#include <algorithm>

#include "compressors/low_rank_compressor.h"

namespace acp {

at::Tensor LowRankCompressor::error_memory() const {
  if (!residual_) return {};
  settle();
  return residual_->flat();
}

State LowRankCompressor::state() const {
  settle();
  State state;
  if (residual_) residual_->save(state);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (parts_[k].rank == 0) continue;
    auto& mine = state[slices_[k].name];
    mine["p"] = part(Side::p, p_.value, k).t().clone(at::MemoryFormat::Contiguous);
    mine["q"] = part(Side::q, q_.value, k).t().clone(at::MemoryFormat::Contiguous);
  }
  return state;
}

void LowRankCompressor::load_state(const State& state) {
  settle();
  if (residual_) residual_->load(state);
  for (std::size_t k = 0; k < slices_.size(); ++k) {
    if (parts_[k].rank == 0) continue;
    for (const auto side : {Side::p, Side::q}) {
      const auto* kind = side == Side::p ? "p" : "q";
      const auto saved = find_state(state, slices_[k].name, kind);
      if (!saved.defined()) continue;
      const auto to = part(side, factor(side).value, k);
      if (saved.dim() != 2 || saved.size(0) != to.size(1)) {
        refuse_state(slices_[k].name, kind, saved, {to.size(1), to.size(0)});
      }
      const auto kept = std::min(saved.size(1), to.size(0));
      to.narrow(0, 0, kept).copy_(saved.t().narrow(0, 0, kept));
    }
  }
  prepared.reset();
}

}  // namespace acp
