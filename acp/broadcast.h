// Broadcasts of models, optimizers and objects, and the check that all ranks hold the same parameters. All
// functions but parameters_hash() are collective calls in the order of collectives.h.
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

// Parameters and buffers of `root` go everywhere, in place; tied ones once. ConfigError on every rank when
// names, shapes or dtypes differ: names the first difference, and the ranks.
void broadcast_parameters(torch::nn::Module& module, int root = 0);
void broadcast_parameters(const NamedTensors& tensors, int root = 0);

// Options (learning rate, ...) and state (momenta, step counts, ...) of `root`'s optimizer go everywhere; all
// ranks have built the same one over the same parameters. Where root has no state yet the others have none
// afterwards. Works for whatever implements save() and load(), as all of libtorch's do. ConfigError on every
// rank when the optimizers differ, or when root's cannot be saved (in libtorch an LBFGS that has stepped
// cannot).
void broadcast_optimizer_state(torch::optim::Optimizer& optimizer, int root = 0);

// Bytes of `root`, of any length, on every rank; the others' argument is ignored.
std::string broadcast_object(std::string_view bytes, int root = 0);

// The bytes of every rank, in rank order.
std::vector<std::string> all_gather_object(std::string_view bytes);

namespace detail {

// Types that have their own binary form, as nlohmann::json has CBOR; matched by name, so that this header
// needs no JSON library.
template <class T>
concept Cbor = requires(const T& value, const std::vector<std::uint8_t>& bytes) {
  T::to_cbor(value);
  T::from_cbor(bytes);
};

// Numbers and plain structures, which are their bytes.
template <class T>
concept Plain =
    std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T> && !std::is_pointer_v<T> &&
    !std::is_convertible_v<T, std::string_view>;

template <class T>
concept PlainVector = Plain<typename T::value_type> &&
    std::is_same_v<T, std::vector<typename T::value_type>> && !std::is_same_v<typename T::value_type, bool>;

template <class T>
concept Object = std::is_same_v<T, std::string> || Cbor<T> || Plain<T> || PlainVector<T>;

[[noreturn]] void refuse_bytes(std::size_t have, std::size_t element);

template <Object T>
std::string to_bytes(const T& object) {
  if constexpr (std::is_same_v<T, std::string>) {
    return object;
  } else if constexpr (Cbor<T>) {
    const std::vector<std::uint8_t> bytes = T::to_cbor(object);
    return {bytes.begin(), bytes.end()};
  } else if constexpr (Plain<T>) {
    return {reinterpret_cast<const char*>(&object), sizeof object};
  } else {
    return {reinterpret_cast<const char*>(object.data()), object.size() * sizeof(typename T::value_type)};
  }
}

template <Object T>
T from_bytes(const std::string& bytes) {
  if constexpr (std::is_same_v<T, std::string>) {
    return bytes;
  } else if constexpr (Cbor<T>) {
    return T::from_cbor(std::vector<std::uint8_t>(bytes.begin(), bytes.end()));
  } else if constexpr (Plain<T>) {
    T object{};
    if (bytes.size() != sizeof object) refuse_bytes(bytes.size(), sizeof object);
    bytes.copy(reinterpret_cast<char*>(&object), sizeof object);
    return object;
  } else {
    constexpr std::size_t element = sizeof(typename T::value_type);
    if (bytes.size() % element != 0) refuse_bytes(bytes.size(), element);
    T object(bytes.size() / element);
    bytes.copy(reinterpret_cast<char*>(object.data()), bytes.size());
    return object;
  }
}

}  // namespace detail

// A std::string, a number, a structure without pointers, a std::vector of these, or an nlohmann::json. All
// ranks give the same type; ConfigError if the sizes show that they did not.
template <detail::Object T>
T broadcast_object(const T& object, int root = 0) {
  return detail::from_bytes<T>(broadcast_object(std::string_view(detail::to_bytes(object)), root));
}

// One object of every rank, in rank order.
template <detail::Object T>
std::vector<T> all_gather_object(const T& object) {
  std::vector<T> result;
  for (const std::string& bytes : all_gather_object(std::string_view(detail::to_bytes(object)))) {
    result.push_back(detail::from_bytes<T>(bytes));
  }
  return result;
}

// 64 bits over names, shapes, dtypes and bytes of the parameters (not the buffers), in order; tied ones once.
std::uint64_t parameters_hash(const torch::nn::Module& module);
std::uint64_t parameters_hash(const NamedTensors& parameters);

// The common hash; a CommunicationError on every rank unless all have the same parameters. It names the first
// parameter that differs, and the ranks whose value is not rank 0's.
std::uint64_t check_parameters_agree(const torch::nn::Module& module);
std::uint64_t check_parameters_agree(const NamedTensors& parameters);

}  // namespace acp
