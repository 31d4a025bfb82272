// Procedural digits: a data set that needs no files.
#pragma once

#include <cstdint>

#include "models/images.h"

namespace acp::models {

// `count` grey images of 28x28 with the digits 0 to 9 as strokes, each shifted, turned, scaled, slanted and
// bent at random, with random thickness, stray strokes and noise. Every ten successive images hold each digit
// once. Integer arithmetic alone: the same bytes on every machine, and image i depends on `seed`, `part` and
// i only.
Images draw_digits(std::int64_t count, std::uint64_t seed, std::uint64_t part);

}  // namespace acp::models
