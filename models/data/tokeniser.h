// Sentences as token numbers in the manner of BERT: a few special tokens, then words or pieces of words.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/data/words.h"

namespace acp::models {

// What has no spelling of its own in a text. Vocabularies made here begin with these, in this order.
struct SpecialTokens {
  std::int32_t padding = 0, unknown = 1, first = 2, separator = 3;  // [PAD] [UNK] [CLS] [SEP], then [MASK]
};

class Tokeniser {
 public:
  virtual ~Tokeniser() = default;
  // The sentence's tokens, without special ones but `unknown`.
  virtual std::vector<std::int32_t> encode(std::string_view sentence) const = 0;

  const std::vector<std::string>& tokens() const { return tokens_; }  // by number
  const SpecialTokens& special() const { return special_; }

 protected:
  Tokeniser(std::vector<std::string> tokens, SpecialTokens special)
      : tokens_(std::move(tokens)), special_(special) {}

  std::vector<std::string> tokens_;
  SpecialTokens special_;
};

// The sentence's words: split at spaces, with ASCII letters in lower case; with `punctuation` every ASCII
// punctuation mark is a word of its own.
std::vector<std::string> words_of(std::string_view sentence, bool punctuation);

// Words that occur at least twice, the most frequent ones up to a vocabulary of `size` tokens; others are
// [UNK].
std::unique_ptr<Tokeniser> make_word_tokeniser(const std::vector<std::string>& sentences, std::int64_t size);

// Pieces of words, "play" "##ing": each word is cut into the longest pieces of the vocabulary from left to
// right, and is [UNK] as a whole where that does not come out even. The vocabulary holds all characters that
// occur and, up to `size` tokens, what joining the most frequent pair of neighbours over and over gives
// (byte-pair encoding: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016;
// equally frequent pairs in alphabetical order).
std::unique_ptr<Tokeniser> make_piece_tokeniser(const std::vector<std::string>& sentences, std::int64_t size);

// The same with the vocabulary of a file, one token a line (BERT's vocab.txt). DataError where [PAD], [UNK],
// [CLS] or [SEP] is missing or a token comes twice.
std::unique_ptr<Tokeniser> read_piece_tokeniser(const std::filesystem::path& vocabulary);

}  // namespace acp::models
