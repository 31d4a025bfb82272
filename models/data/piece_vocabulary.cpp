// The pieces of words that a vocabulary should hold, by byte-pair encoding. Counts of pairs are kept up to
// date rather than counted anew for each join, so that thousands of joins take a fraction of a second.
#include "models/data/piece_vocabulary.h"

#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace acp::models {
namespace {

using Pair = std::pair<std::int32_t, std::int32_t>;

// A pair's place in the queue: the most frequent first, then by spelling.
struct Entry {
  std::int64_t count = 0;
  std::string left, right;
  Pair pair;

  bool operator<(const Entry& other) const {
    if (count != other.count) return count > other.count;
    return std::tie(left, right) < std::tie(other.left, other.right);
  }
};

class Joiner {
 public:
  explicit Joiner(const Words& words) {
    for (const std::int32_t word : by_frequency(words)) {
      const std::string& text = words.spelling(word);
      auto& [pieces, count] = words_.emplace_back();
      count = words.count(word);
      for (std::size_t begin = 0; begin < text.size();) {
        std::size_t end = begin + 1;
        while (end < text.size() && is_continuation(text[end])) ++end;
        pieces.push_back(pieces_.add((begin == 0 ? "" : "##") + text.substr(begin, end - begin)));
        begin = end;
      }
    }
    for (std::size_t w = 0; w < words_.size(); ++w) count_pairs(w, 1);
    for (const auto& [pair, count] : counts_) queue_.insert(entry(pair, count));
    touched_.clear();
  }

  std::int64_t size() const { return pieces_.size(); }

  // False where no pair is left that occurs twice.
  bool join() {
    if (queue_.empty() || queue_.begin()->count < 2) return false;
    const Pair best = queue_.begin()->pair;
    const std::int32_t joined =
        pieces_.add(pieces_.spelling(best.first) + pieces_.spelling(best.second).substr(2));
    const std::set<std::size_t> places = std::exchange(places_[best], {});
    for (const std::size_t w : places) {
      count_pairs(w, -1);
      auto& pieces = words_[w].pieces;
      std::size_t kept = 0;
      for (std::size_t i = 0; i < pieces.size(); ++i) {
        const bool here = i + 1 < pieces.size() && Pair(pieces[i], pieces[i + 1]) == best;
        pieces[kept++] = here ? joined : pieces[i];
        if (here) ++i;
      }
      pieces.resize(kept);
      count_pairs(w, 1);
    }
    for (const auto& [pair, before] : touched_) {
      const std::int64_t now = counts_[pair];
      if (now == before) continue;
      if (before > 0) queue_.erase(entry(pair, before));
      if (now > 0) queue_.insert(entry(pair, now));
    }
    touched_.clear();
    return true;
  }

  std::vector<std::string> pieces() const {
    std::vector<std::string> result;
    for (std::int32_t piece = 0; piece < pieces_.size(); ++piece) result.push_back(pieces_.spelling(piece));
    return result;
  }

 private:
  struct Word {
    std::vector<std::int32_t> pieces;
    std::int64_t count = 0;
  };

  static bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

  Entry entry(const Pair& pair, std::int64_t count) const {
    return {count, pieces_.spelling(pair.first), pieces_.spelling(pair.second), pair};
  }

  // Adds (sign 1) or takes away (-1) a word's pairs.
  void count_pairs(std::size_t w, int sign) {
    const auto& [pieces, count] = words_[w];
    for (std::size_t i = 0; i + 1 < pieces.size(); ++i) {
      const Pair pair{pieces[i], pieces[i + 1]};
      std::int64_t& total = counts_[pair];
      touched_.emplace(pair, total);
      total += sign * count;
      auto& places = places_[pair];
      if (sign > 0) {
        places.insert(w);
      } else {
        places.erase(w);
      }
    }
  }

  Words pieces_;
  std::vector<Word> words_;
  std::map<Pair, std::int64_t> counts_;
  std::map<Pair, std::set<std::size_t>> places_;  // words that have the pair
  std::map<Pair, std::int64_t> touched_;  // pairs whose counts the current join changes, and what they were
  std::set<Entry> queue_;
};

}  // namespace

std::vector<std::string> piece_vocabulary(const Words& words, std::int64_t size) {
  Joiner joiner(words);
  while (joiner.size() < size && joiner.join()) {
  }
  return joiner.pieces();
}

}  // namespace acp::models
