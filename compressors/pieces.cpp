// See pieces.h.
#include "compressors/pieces.h"

#include <algorithm>

namespace acp {

std::vector<std::vector<Piece>> cut(std::span<const CodedBlock> blocks, int ranks) {
  std::vector<std::vector<Piece>> chunks(static_cast<std::size_t>(ranks));
  std::int64_t left = 0;
  for (const auto& block : blocks) left += block.count;
  std::size_t p = 0;
  std::int64_t from = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    auto want = left / (ranks - rank);
    while (want > 0 && p < blocks.size()) {
      const auto rest = blocks[p].count - from;
      const auto count = rest <= want ? rest : std::min(rest, (want + 3) / 4 * 4);
      if (count > 0) {
        chunks[static_cast<std::size_t>(rank)].push_back(
            {p, from, count, std::string(blocks[p].name) + " from " + std::to_string(from)});
      }
      from += count;
      left -= count;
      want -= std::min(want, count);
      if (from == blocks[p].count) {
        ++p;
        from = 0;
      }
    }
  }
  // A last rank has all that is left, so nothing remains but empty blocks.
  return chunks;
}

}  // namespace acp
