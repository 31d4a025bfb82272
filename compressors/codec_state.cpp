// What coded compressors keep over a restart, and what policies change.
#include <ATen/ATen.h>

#include "comm/error.h"
#include "compressors/codec_compressor.h"
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
        for (std::size_t k = part.first; k < part.first + part.slices; ++k) {
          const auto piece = find_state(state, slices_[k].name, kind);
          if (piece.defined() && piece.numel() == slices_[k].numel()) pieces.push_back(piece.reshape(-1));
        }
        const bool whole = part.slices > 1 && pieces.size() == part.slices;
        kinds[kind.substr(prefix.size())] = whole ? at::cat(pieces) : tensor;
      }
      return kinds;
    };
    if (const auto kinds = collect(sparsifier_prefix); part.sparsifier && !kinds.empty()) {
      part.sparsifier->load(kinds);
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
      if (level != levels[part.first]) {
        throw ConfigError("a policy set unlike levels for parameters that " + settings_.method +
                          " codes together; take granularity \"layer\"");
      }
    }
  }
  bool changed = false;
  for (auto& part : parts_) {
    const auto& level = levels[part.first];
    changed = changed || part.plain == level.has_value();
    part.plain = !level.has_value();
    if (!level) continue;
    if (settings_.ratio_knob) {
      part.sparsifier->set_ratio(*level);
    } else if (part.quantiser) {
      part.quantiser->set_bits(*level);
      changed = true;
    } else {
      part.sparsifier->set_ratio(*level);
    }
  }
  if (changed) laid_out();
}

void CodecCompressor::set_second_moments(const std::string& parameter, const at::Tensor& squares) {
  for (auto& part : parts_) {
    if (part.name != parameter || !part.sparsifier) continue;
    if (squares.numel() != part.count) refuse_state(parameter, "second moments", squares, part.shape);
    const auto flat = squares.to(at::kCPU, at::kFloat).contiguous();
    part.sparsifier->set_second_moments({flat.data_ptr<float>(), static_cast<std::size_t>(flat.numel())});
    return;
  }
  throw ConfigError("second moments of " + parameter + ": " + settings_.method +
                    " has no block of that name (with granularity \"layer\" every parameter has one)");
}

}  // namespace acp
