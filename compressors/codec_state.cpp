// What coded compressors keep over a restart, and what policies change.
#include <ATen/ATen.h>

#include <cmath>

#include "comm/error.h"
#include "compressors/codec_compressor.h"
#include "compressors/names.h"
#include "compressors/residual.h"

namespace acp {
namespace {

// Prefixes keep the kinds of the two parts of a hybrid and of the memory apart.
constexpr const char* sparsifier_prefix = "select.";
constexpr const char* quantiser_prefix = "code.";

}  // namespace

// State with a number per element is cut up by parameter, so that it fits whatever bucket they are in later;
// other state of several parameters belongs to the first.
State CodecCompressor::state() const {
  State state;
  memory_.save(state);
  for (const auto& part : parts_) {
    const auto keep = [&](const std::map<std::string, at::Tensor>& kinds, const std::string& prefix) {
      for (const auto& [kind, tensor] : kinds) {
        if (tensor.numel() != part.count || part.slices == 1) {
          state[slices_[part.first].name][prefix + kind] = tensor.clone();
          continue;
        }
        for (std::size_t k = part.first; k < part.first + part.slices; ++k) {
          const auto& slice = slices_[k];
          state[slice.name][prefix + kind] =
              tensor.view(-1).narrow(0, slice.offset - part.offset, slice.numel()).clone();
        }
      }
    };
    std::map<std::string, at::Tensor> kinds;
    if (part.sparsifier) part.sparsifier->save(kinds);
    keep(kinds, sparsifier_prefix);
    kinds.clear();
    if (part.quantiser) part.quantiser->save(kinds);
    keep(kinds, quantiser_prefix);
  }
  return state;
}

void CodecCompressor::load_state(const State& state) {
  memory_.load(state);
  for (auto& part : parts_) {
    const auto collect = [&](const std::string& prefix) {
      std::map<std::string, at::Tensor> kinds;
      const auto first = state.find(slices_[part.first].name);
      if (first == state.end()) return kinds;
      for (const auto& [kind, tensor] : first->second) {
        if (!kind.starts_with(prefix)) continue;
        std::vector<at::Tensor> pieces;
        bool by_element = part.slices > 1;  // of the others, what was not saved is 0
        for (std::size_t k = part.first; k < part.first + part.slices; ++k) {
          const auto piece = find_state(state, slices_[k].name, kind);
          by_element = by_element && (!piece.defined() || piece.numel() == slices_[k].numel());
          pieces.push_back(piece.defined() ? piece.reshape(-1)
                                           : at::zeros({slices_[k].numel()}, tensor.options()));
        }
        kinds[kind.substr(prefix.size())] = by_element ? at::cat(pieces) : tensor;
      }
      return kinds;
    };
    if (const auto kinds = collect(sparsifier_prefix); part.sparsifier && !kinds.empty()) {
      try {
        part.sparsifier->load(kinds, part.count);
      } catch (const ConfigError& error) {
        throw ConfigError("parameter " + in_quotes(part.name) + ": " + error.what());
      }
    }
    if (const auto kinds = collect(quantiser_prefix); part.quantiser && !kinds.empty())
      part.quantiser->load(kinds);
  }
}

void CodecCompressor::set_levels(std::span<const Level> levels) {
  if (levels.size() != slices_.size()) {
    throw ConfigError("a policy set " + std::to_string(levels.size()) + " levels for " +
                      std::to_string(slices_.size()) + " parameters");
  }
  for (const auto& part : parts_) {
    for (const auto& level : levels.subspan(part.first, part.slices)) {
      const auto& first = levels[part.first];
      if (level != first && !(level && first && std::isnan(*level) && std::isnan(*first))) {
        throw ConfigError("a policy set unlike levels for parameters that " + settings_.method +
                          " codes together; take granularity \"layer\"");
      }
    }
  }
  bool changed = false;
  for (auto& part : parts_) {
    const auto& level = levels[part.first];
    if (level && std::isnan(*level)) {  // the method's own
      const auto shape = part.slices > 1 ? std::vector<std::int64_t>{1, part.count} : part.shape;
      const bool plain = settings_.plain && settings_.plain(shape);
      changed = changed || part.plain != plain;
      part.plain = plain;
      continue;
    }
    changed = changed || part.plain == level.has_value();
    part.plain = !level.has_value();
    if (!level) continue;
    if (settings_.ratio_knob) {
      part.sparsifier->set_ratio(*level);
      part.ratio = *level;
    } else if (part.quantiser) {
      part.quantiser->set_bits(*level);
      changed = true;
    } else {
      part.sparsifier->set_ratio(*level);
    }
  }
  if (changed) laid_out();
}

}  // namespace acp
