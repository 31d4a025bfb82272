// See positions.h.
#include "models/positions.h"

#include <torch/types.h>

#include <cmath>

namespace acp::models {

at::Tensor sinusoids(const at::Tensor& positions, std::int64_t width) {
  const at::Tensor steps = torch::arange(0, width, 2, positions.options());
  const at::Tensor angles =
      torch::outer(positions, torch::exp(steps * (-std::log(10000.0) / static_cast<double>(width))));
  return torch::cat({angles.sin(), angles.cos()}, 1);
}

}  // namespace acp::models
