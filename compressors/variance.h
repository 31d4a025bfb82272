// Values as powers of two: the code of the variance-based method.
#pragma once

#include <optional>

namespace acp {

// The nearest power of two with the sign of x, at most the power below `largest` (a magnitude); nothing if it
// is more than 2^7 below that, or no normal number.
std::optional<float> nearest_power(float x, float largest);

}  // namespace acp
