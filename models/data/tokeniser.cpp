// Words of sentences, and the tokenisers that number words or known pieces.
#include "models/data/tokeniser.h"

#include <algorithm>

#include "models/data/lines.h"
#include "models/data/piece_vocabulary.h"

namespace acp::models {
namespace {

const std::vector<std::string>& special_names() {
  static const std::vector<std::string> names{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  return names;
}

std::vector<std::string> after_special(const std::vector<std::string>& tokens, std::int64_t size) {
  std::vector<std::string> result = special_names();
  for (const std::string& token : tokens) {
    if (static_cast<std::int64_t>(result.size()) == size) break;
    result.push_back(token);
  }
  return result;
}

Words numbered(const std::vector<std::string>& tokens) {
  Words words;
  for (const std::string& token : tokens) words.add(token);
  return words;
}

class WordTokeniser final : public Tokeniser {
 public:
  explicit WordTokeniser(std::vector<std::string> tokens)
      : Tokeniser(std::move(tokens), {}), numbers_(numbered(tokens_)) {}

  std::vector<std::int32_t> encode(std::string_view sentence) const override {
    std::vector<std::int32_t> result;
    for (const std::string& word : words_of(sentence, false))
      result.push_back(numbers_.find(word).value_or(special_.unknown));
    return result;
  }

 private:
  Words numbers_;
};

class PieceTokeniser final : public Tokeniser {
 public:
  PieceTokeniser(std::vector<std::string> tokens, SpecialTokens special)
      : Tokeniser(std::move(tokens), special), numbers_(numbered(tokens_)) {
    for (const std::string& token : tokens_) longest_ = std::max(longest_, token.size());
  }

  std::vector<std::int32_t> encode(std::string_view sentence) const override {
    std::vector<std::int32_t> result;
    for (const std::string& word : words_of(sentence, true)) {
      const std::size_t before = result.size();
      if (!append(word, result)) {
        result.resize(before);
        result.push_back(special_.unknown);
      }
    }
    return result;
  }

 private:
  // False where no piece fits.
  bool append(std::string_view word, std::vector<std::int32_t>& result) const {
    for (std::size_t begin = 0; begin < word.size();) {
      std::string piece = begin == 0 ? "" : "##";
      const std::size_t mark = piece.size();
      piece += word.substr(begin, longest_);
      auto found = numbers_.find(piece);
      while (!found && piece.size() > mark + 1) {
        piece.pop_back();
        found = numbers_.find(piece);
      }
      if (!found) return false;
      result.push_back(*found);
      begin += piece.size() - mark;
    }
    return true;
  }

  Words numbers_;
  std::size_t longest_ = 1;
};

Words count_words(const std::vector<std::string>& sentences, bool punctuation) {
  Words words;
  for (const std::string& sentence : sentences) {
    for (const std::string& word : words_of(sentence, punctuation)) words.add(word);
  }
  return words;
}

}  // namespace

std::vector<std::string> words_of(std::string_view sentence, bool punctuation) {
  std::vector<std::string> words;
  for (auto rest = sentence, word = next_word(rest); !word.empty(); word = next_word(rest)) {
    bool joined = false;  // to the word before
    for (const char c : word) {
      const bool upper = c >= 'A' && c <= 'Z';
      const bool mark = punctuation && ((c >= '!' && c <= '/') || (c >= ':' && c <= '@') ||
                                        (c >= '[' && c <= '`') || (c >= '{' && c <= '~'));
      if (!joined || mark) words.emplace_back();
      words.back() += static_cast<char>(upper ? c - 'A' + 'a' : c);
      joined = !mark;
    }
  }
  return words;
}

std::unique_ptr<Tokeniser> make_word_tokeniser(const std::vector<std::string>& sentences, std::int64_t size) {
  const Words words = count_words(sentences, false);
  std::vector<std::string> tokens;
  for (const std::int32_t word : by_frequency(words)) {
    if (words.count(word) > 1) tokens.push_back(words.spelling(word));
  }
  return std::make_unique<WordTokeniser>(after_special(tokens, size));
}

std::unique_ptr<Tokeniser> make_piece_tokeniser(const std::vector<std::string>& sentences,
                                                std::int64_t size) {
  const Words words = count_words(sentences, true);
  const std::int64_t room = size - static_cast<std::int64_t>(special_names().size());
  return std::make_unique<PieceTokeniser>(after_special(piece_vocabulary(words, room), size),
                                          SpecialTokens{});
}

std::unique_ptr<Tokeniser> read_piece_tokeniser(const std::filesystem::path& vocabulary) {
  std::vector<std::string> tokens;
  Words seen;
  Lines lines(vocabulary);
  while (lines.next()) {
    const auto n = static_cast<std::int32_t>(tokens.size());
    if (seen.add(lines.line()) != n) lines.fail(excerpt(lines.line()) + ": this token came before");
    tokens.emplace_back(lines.line());
  }
  const auto number_of = [&](const std::string& name) {
    const auto found = seen.find(name);
    if (!found) lines.fail("the file ends without the token " + name);
    return *found;
  };
  const SpecialTokens special{number_of("[PAD]"), number_of("[UNK]"), number_of("[CLS]"), number_of("[SEP]")};
  return std::make_unique<PieceTokeniser>(std::move(tokens), special);
}

}  // namespace acp::models
