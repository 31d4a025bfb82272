// The pieces of words that a vocabulary of a given size should hold.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/data/words.h"

namespace acp::models {

// All characters of these words (UTF-8), then, up to `size` pieces, each the join of that pair of
// neighbouring pieces which is the most frequent after the joins before it; words count as often as they
// occur. Pieces that do not begin a word have "##" in front.
std::vector<std::string> piece_vocabulary(const Words& words, std::int64_t size);

}  // namespace acp::models
