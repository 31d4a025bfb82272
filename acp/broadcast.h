// Broadcasts of models, optimizers and objects, and the check that all ranks hold the same parameters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "acp/gradient_reducer.h"

namespace torch::nn {
class Module;
}
namespace torch::optim {
class Optimizer;
}

namespace acp {

// Parameters and buffers of `root` go everywhere, in place. ConfigError names the first tensor in which the
// ranks' models differ, and the ranks.
void broadcast_parameters(torch::nn::Module& module, int root = 0);
void broadcast_parameters(const NamedTensors& tensors, int root = 0);

// Options and state of `root`'s optimizer go everywhere; all ranks have built the same one. An optimizer
// without state yet leaves the others without. What libtorch cannot save (an LBFGS that has stepped) is one
// clear error.
void broadcast_optimizer_state(torch::optim::Optimizer& optimizer, int root = 0);

// Bytes of `root`, of any length; the others' argument is ignored.
std::string broadcast_object(std::string_view bytes, int root = 0);

// A number or a plain structure; all ranks give the same type.
template <class T>
requires std::is_trivially_copyable_v<T> &&(!std::is_convertible_v<T, std::string_view>)T
    broadcast_object(const T& object, int root = 0) {
  const std::string bytes =
      broadcast_object(std::string_view(reinterpret_cast<const char*>(&object), sizeof object), root);
  T result = object;
  bytes.copy(reinterpret_cast<char*>(&result), sizeof result);
  return result;
}

// The bytes of every rank, in rank order.
std::vector<std::string> all_gather_object(std::string_view bytes);

// FNV-1a, 64 bits, over the bytes of the parameters (not the buffers) in order; each tensor once.
std::uint64_t parameters_hash(const torch::nn::Module& module);

// Throws the same CommunicationError on every rank unless all have the same parameters; it names the ranks
// whose parameters are not those of rank 0. Returns the common hash.
std::uint64_t check_parameters_agree(const torch::nn::Module& module);

}  // namespace acp
