// Text for language models: Penn Treebank, WikiText, or any three files of words. The vocabulary is that of
// the training part.
#include <algorithm>
#include <string>

#include "comm/error.h"
#include "models/data/lines.h"
#include "models/data/token_samples.h"
#include "models/data/words.h"
#include "models/file.h"

namespace acp::models {
namespace {

namespace fs = std::filesystem;

constexpr std::int32_t unknown = -1;  // as a token before it is numbered

// Hands each word to `number`, and "<eos>" after each line.
template <class Number>
Tokens read_text(const fs::path& path, const Number& number) {
  Tokens tokens;
  for (Lines lines(path); lines.next();) {
    std::string_view line = lines.line();
    for (auto word = next_word(line); !word.empty(); word = next_word(line)) tokens.push_back(number(word));
    tokens.push_back(number("<eos>"));
  }
  return tokens;
}

// From words by first appearance to the vocabulary's numbers.
struct Vocabulary {
  std::vector<std::int32_t> numbers;  // by word
  std::int32_t unknown_number = 0;    // of words that training lacks; meaningless where there are none
  std::int64_t size = 0;

  void apply(Tokens& tokens) const {
    for (auto& token : tokens)
      token = token == unknown ? unknown_number : numbers[static_cast<std::size_t>(token)];
  }
};

// The most frequent word is 0. Words that training lacks are "<unk>". Where training lacks that too although
// it is needed, it stands for all that occurs once in training, so that its probability can be learnt, and
// comes last.
Vocabulary make_vocabulary(const Words& words, bool needs_unknown) {
  std::vector<std::int32_t> order = by_frequency(words);
  const auto given = words.find("<unk>");
  const bool added = needs_unknown && !given;
  if (added) std::erase_if(order, [&](std::int32_t word) { return words.count(word) == 1; });
  const auto last = static_cast<std::int32_t>(order.size());
  Vocabulary result{std::vector<std::int32_t>(static_cast<std::size_t>(words.size()), last), last,
                    last + (added ? 1 : 0)};
  for (std::int32_t n = 0; n < last; ++n)
    result.numbers[static_cast<std::size_t>(order[static_cast<std::size_t>(n)])] = n;
  if (given) result.unknown_number = result.numbers[static_cast<std::size_t>(*given)];
  return result;
}

// How the owners call the three files.
struct FileNames {
  std::string train, valid, test;
};
const FileNames ptb_names{"ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"};
const FileNames wiki_names{"wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"};
const FileNames plain_names{"train.txt", "valid.txt", "test.txt"};

// The first form whose training file is there.
FileNames names_in(const fs::path& folder, std::span<const FileNames> forms) {
  for (const FileNames& names : forms) {
    if (is_there(folder / names.train)) return names;
  }
  return forms.front();
}

DataSet load_text(const std::string& name, const fs::path& folder, std::span<const FileNames> forms,
                  const LoadOptions& options) {
  const FileNames names = names_in(folder, forms);
  Words words;
  Tokens train = read_text(plain_or_gz(folder / names.train), [&](auto word) { return words.add(word); });
  std::int64_t absent = 0;
  const auto look_up = [&](std::string_view word) {
    const auto found = words.find(word);
    absent += found ? 0 : 1;
    return found.value_or(unknown);
  };
  Tokens valid = read_text(plain_or_gz(folder / names.valid), look_up), test;
  if (is_there(folder / names.test)) test = read_text(plain_or_gz(folder / names.test), look_up);

  const Vocabulary vocabulary = make_vocabulary(words, absent > 0);
  for (Tokens* part : {&train, &valid, &test}) vocabulary.apply(*part);
  const std::string sizes = "tokens with <eos>: train " + std::to_string(train.size()) + ", valid " +
                            std::to_string(valid.size()) + ", test " + std::to_string(test.size());
  DataSet set = text_set(name, vocabulary.size, std::move(train), std::move(valid), std::move(test),
                         wanted_length(options));
  set.facts = {"vocabulary: " + std::to_string(vocabulary.size) + " words of the " +
                   std::to_string(words.size()) + " in the training part, with <eos>",
               sizes, "words outside the vocabulary in valid and test: " + std::to_string(absent)};
  return set;
}

bool is_wikitext(const fs::path& folder, const std::string& number) {
  return folder_name(folder).starts_with("wikitext-" + number);
}

DataSetInfo text_info(const std::string& name, const std::string& summary,
                      std::vector<std::string> subfolders, std::vector<FileNames> forms) {
  DataSetInfo info;
  info.name = name;
  info.summary = summary;
  info.subfolders = std::move(subfolders);
  for (const FileNames& names : forms) info.files.push_back(names.train);
  info.load = [name, forms = std::move(forms)](const fs::path& folder, const Values&,
                                               const LoadOptions& options) {
    return load_text(name, folder, forms, options);
  };
  return info;
}

DataSetInfo wikitext(const std::string& number, const std::string& summary) {
  const std::string name = "wikitext-" + number;
  DataSetInfo info =
      text_info(name, summary, {name, "WikiText-" + number, name + "-v1"}, {wiki_names, plain_names});
  info.is_mine = [number](const fs::path& folder) { return is_wikitext(folder, number); };
  return info;
}

DataSetInfo any_text() {
  DataSetInfo info = text_info("text", "any train.txt, valid.txt and test.txt: words split by spaces",
                               {"text"}, {plain_names, wiki_names});
  info.is_mine = [](const fs::path& folder) {
    return !is_wikitext(folder, "2") && !is_wikitext(folder, "103");
  };
  return info;
}

const bool ptb = register_data_set(
    text_info("ptb", "newspaper text, Mikolov's preprocessing, 929,589 tokens, 10,000 words",
              {"ptb", "PTB", "penn", "simple-examples/data"}, {ptb_names}));
const bool wikitext_2 =
    register_data_set(wikitext("2", "encyclopedia articles, 2 million tokens, 33,278 words"));
const bool wikitext_103 =
    register_data_set(wikitext("103", "encyclopedia articles, 103 million tokens, 267,735 words"));
const bool text = register_data_set(any_text());

}  // namespace
}  // namespace acp::models
