// exchange=scatter: which rank sums what.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace acp {

// A part of a block that one rank sums; its code begins where the block's buckets begin anew.
struct Piece {
  std::size_t part = 0;
  std::int64_t from = 0, count = 0;
  std::string name;
};

struct CodedBlock {
  std::string_view name;
  std::int64_t count = 0;  // 0 of those that are not coded
};

// By rank: rank r takes an equal share of what is left; where it cuts a block, the piece is rounded up to a
// multiple of 4, so that codes of 2 and more bits end at a byte.
std::vector<std::vector<Piece>> cut(std::span<const CodedBlock> blocks, int ranks);

}  // namespace acp
