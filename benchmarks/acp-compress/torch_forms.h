// The plain libtorch formulation of the methods that have one: what --versus-torch compares with. As people
// write them in Python: whole-tensor operations, codes of a byte where no smaller type exists.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>

namespace acp::programs {

struct TorchForm {
  std::function<void()> encode, decode;
};

// For a lone method with the settings of `spec`; nothing where none is written down here for them. `gradient`
// must outlive it. With `memory` there is error feedback; `bare`: the gradient and the error have been added
// already.
std::optional<TorchForm> torch_form(const std::string& spec, const std::string& memory,
                                    const at::Tensor& gradient, bool bare);

}  // namespace acp::programs
