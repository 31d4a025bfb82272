// Error memory of one bucket.
#include "compressors/residual.h"

#include <ATen/ATen.h>

#include <sstream>

#include "comm/error.h"
#include "compressors/names.h"

namespace acp {

at::Tensor find_state(const State& state, const std::string& parameter, const std::string& kind) {
  const auto found = state.find(parameter);
  if (found == state.end()) return {};
  const auto tensor = found->second.find(kind);
  return tensor == found->second.end() ? at::Tensor() : tensor->second;
}

void refuse_state(const std::string& parameter, const std::string& kind, const at::Tensor& given,
                  at::IntArrayRef expected) {
  std::ostringstream message;
  message << "compressor state " << in_quotes(kind) << " of parameter " << in_quotes(parameter)
          << " has shape " << given.sizes() << ", but " << expected
          << " is needed: was it saved for another model?";
  throw ConfigError(message.str());
}

Residual::Residual(const Bucket& bucket, at::ScalarType type)
    : slices_(bucket.slices), flat_(at::zeros_like(bucket.grads, type)) {}

const at::Tensor& Residual::compensate(const Bucket& bucket) {
  return flat_.add_(bucket.grads);
}

void Residual::save(State& state) const {
  for (const auto& slice : slices_) state[slice.name]["error"] = view(slice).view(slice.shape).clone();
}

void Residual::load(const State& state) {
  for (const auto& slice : slices_) {
    const auto saved = find_state(state, slice.name, "error");
    if (!saved.defined()) continue;
    if (saved.sizes() != at::IntArrayRef(slice.shape)) refuse_state(slice.name, "error", saved, slice.shape);
    view(slice).view(slice.shape).copy_(saved);
  }
}

}  // namespace acp
