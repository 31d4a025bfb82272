// Sentences with a class each: SST-2, or any train.tsv and dev.tsv.
#include <torch/types.h>

#include <algorithm>
#include <map>
#include <string>

#include "comm/error.h"
#include "models/data/lines.h"
#include "models/data/tokeniser.h"
#include "models/data_set.h"
#include "models/file.h"

namespace acp::models {
namespace {

namespace fs = std::filesystem;

// A file's rows.
struct Rows {
  fs::path path;
  std::int64_t first_line = 1;  // of row 0
  std::vector<std::string> sentences, labels;
};

// Two columns split by a tab: the sentence and the label. The first line may name them, "sentence" and
// "label" in either order; without such a line the sentence comes first. Empty where the file has no labels
// ("index" and "sentence", the form in which a benchmark hides those of its test part).
Rows read_rows(const fs::path& path) {
  Rows rows{path, 1, {}, {}};
  Lines lines(path);
  std::size_t label = 1;
  for (bool first = true; lines.next(); first = false) {
    if (first && lines.line() == "index\tsentence") return rows;
    if (first && (lines.line() == "label\tsentence" || lines.line() == "sentence\tlabel")) {
      label = lines.line().starts_with("label") ? 0 : 1;
      rows.first_line = 2;
      continue;
    }
    const auto fields = lines.fields("\t");
    if (fields.size() != 2) {
      lines.fail(std::to_string(fields.size()) + " columns, expected 2 split by a tab: " +
                 (label == 0 ? "label, sentence" : "sentence, label"));
    }
    if (fields[label].empty()) lines.fail("no label");
    if (fields[1 - label].find_first_not_of(" \t") == std::string_view::npos) lines.fail("no sentence");
    rows.labels.emplace_back(fields[label]);
    rows.sentences.emplace_back(fields[1 - label]);
  }
  if (rows.sentences.empty()) lines.fail("no rows");
  return rows;
}

// Whether all are whole numbers without sign.
// The numbers of the classes that training has: n labels 0 to n - 1 are their own numbers, others get theirs
// in alphabetical order.
std::map<std::string, std::int64_t> number_labels(const Rows& train) {
  std::map<std::string, std::int64_t> numbers;
  for (const std::string& label : train.labels) numbers.emplace(label, 0);
  std::size_t own = 0;
  while (numbers.contains(std::to_string(own))) ++own;
  if (own == numbers.size()) {
    for (auto& [label, number] : numbers) number = std::stoll(label);
    return numbers;
  }
  std::int64_t next = 0;
  for (auto& [label, number] : numbers) number = next++;
  return numbers;
}

// Inputs {ids int64 [n, T], mask int64 [n, T]}, target int64 [n]: [CLS], the sentence, as far as it fits,
// [SEP]; the mask is 1 there and 0 at the padding after it.
class SentenceSamples final : public Samples {
 public:
  SentenceSamples(const Rows& rows, const Tokeniser& tokeniser,
                  const std::map<std::string, std::int64_t>& numbers, std::int64_t classes,
                  std::int64_t length)
      : length_(length), padding_(tokeniser.special().padding), counts_(static_cast<std::size_t>(classes)) {
    const auto room = static_cast<std::size_t>(length - 2);
    for (std::size_t i = 0; i < rows.sentences.size(); ++i) {
      const auto number = numbers.find(rows.labels[i]);
      if (number == numbers.end()) {
        throw DataError(rows.path.string() + ":" +
                        std::to_string(rows.first_line + static_cast<std::int64_t>(i)) + ": label " +
                        excerpt(rows.labels[i]) + ", which the training part does not have");
      }
      labels_.push_back(number->second);
      ++counts_[static_cast<std::size_t>(number->second)];
      const auto ids = tokeniser.encode(rows.sentences[i]);
      cut_ += ids.size() > room ? 1 : 0;
      begins_.push_back(tokens_.size());
      tokens_.push_back(tokeniser.special().first);
      tokens_.insert(tokens_.end(), ids.begin(),
                     ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), room)));
      tokens_.push_back(tokeniser.special().separator);
    }
    begins_.push_back(tokens_.size());
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(labels_.size()); }
  std::vector<std::int64_t> class_counts() const override { return counts_; }
  std::int64_t cut() const { return cut_; }  // sentences that do not fit

  Batch get(std::span<const std::int64_t> indices, std::int64_t) const override {
    const auto n = static_cast<std::int64_t>(indices.size());
    const at::Tensor ids = torch::empty({n, length_}, torch::kLong),
                     mask = torch::empty({n, length_}, torch::kLong);
    const at::Tensor target = torch::empty({n}, torch::kLong);
    auto* id = ids.mutable_data_ptr<std::int64_t>();
    auto* present = mask.mutable_data_ptr<std::int64_t>();
    auto* label = target.mutable_data_ptr<std::int64_t>();
    for (const std::int64_t index : indices) {
      const auto i = static_cast<std::size_t>(index);
      const auto count = static_cast<std::int64_t>(begins_[i + 1] - begins_[i]);
      id = std::copy_n(tokens_.begin() + static_cast<std::ptrdiff_t>(begins_[i]), count, id);
      id = std::fill_n(id, length_ - count, padding_);
      present = std::fill_n(std::fill_n(present, count, 1), length_ - count, 0);
      *label++ = labels_[i];
    }
    return {{ids, mask}, target, n};
  }

 private:
  std::int64_t length_, cut_ = 0;
  std::int32_t padding_;
  std::vector<std::int32_t> tokens_;  // sentence after sentence
  std::vector<std::size_t> begins_;
  std::vector<std::int64_t> labels_, counts_;
};

std::unique_ptr<Tokeniser> make_tokeniser(const fs::path& folder, const Rows& train, const Values& values) {
  const std::string kinds[] = {"wordpiece", "word"};
  const std::int64_t size = values.integer("vocab", 0, 1'000'000);
  if (size > 0 && size < 16) throw ConfigError("vocab=" + std::to_string(size) + ": at least 16, or 0");
  if (values.choice("tokens", kinds) == "word")
    return make_word_tokeniser(train.sentences, size == 0 ? 1'000'000 : size);
  if (is_there(folder / "vocab.txt") && size == 0)
    return read_piece_tokeniser(plain_or_gz(folder / "vocab.txt"));
  return make_piece_tokeniser(train.sentences, size == 0 ? 8000 : size);
}

// T as the model wants it, [CLS] and [SEP] included; else 64.
std::int64_t sentence_length(const LoadOptions& options) {
  const auto& inputs = options.wanted.inputs;
  if (inputs.empty() || inputs[0].shape.size() != 1 || inputs[0].classes == 0) return 64;
  if (inputs[0].shape[0] < 3) {
    throw ConfigError("sentences of " + std::to_string(inputs[0].shape[0]) +
                      " tokens: [CLS], [SEP] and a word take at least 3");
  }
  return inputs[0].shape[0];
}

// `classes`: that the labels must be below; 0: what training has decides.
DataSet load_sentences(const std::string& name, std::int64_t classes, const fs::path& folder,
                       const Values& values, const LoadOptions& options) {
  const Rows train = read_rows(plain_or_gz(folder / "train.tsv")),
             dev = read_rows(plain_or_gz(folder / "dev.tsv"));
  for (const Rows* rows : {&train, &dev}) {
    if (rows->labels.empty()) throw DataError(rows->path.string() + ":1: no column of labels");
  }
  const auto numbers = number_labels(train);
  std::int64_t found = 0;
  for (const auto& [label, number] : numbers) found = std::max(found, number + 1);
  if (classes > 0 && found != classes) {
    throw DataError(train.path.string() + ": " + std::to_string(found) + " classes of labels, expected " +
                    std::to_string(classes));
  }
  const auto tokeniser = make_tokeniser(folder, train, values);
  const std::int64_t length = sentence_length(options);
  std::int64_t cut = 0;
  const auto part = [&](const Rows& rows) {
    auto samples = std::make_shared<SentenceSamples>(rows, *tokeniser, numbers, found, length);
    cut += samples->cut();
    return samples;
  };
  DataSet set;
  set.train = part(train);
  set.eval = part(dev);
  if (is_there(folder / "test.tsv")) {
    if (const Rows test = read_rows(plain_or_gz(folder / "test.tsv")); !test.labels.empty())
      set.test = part(test);
  }
  const auto vocabulary = static_cast<std::int64_t>(tokeniser->tokens().size());
  set.name = name;
  set.sample = {{{{length}, vocabulary}, {{length}, 2}}, {{}, found}};
  set.facts = {"vocabulary: " + std::to_string(vocabulary) + " tokens (" + values.text("tokens") + ")",
               "sentences longer than " + std::to_string(length) +
                   " tokens with [CLS] and [SEP], cut there: " + std::to_string(cut)};
  if (std::ranges::any_of(numbers,
                          [](const auto& each) { return each.first != std::to_string(each.second); })) {
    std::string labels = "labels:";
    for (const auto& [label, number] : numbers) labels += " " + std::to_string(number) + " = " + label;
    set.facts.push_back(labels);
  }
  return set;
}

DataSetInfo sentence_info(const std::string& name, const std::string& summary,
                          std::vector<std::string> subfolders, std::int64_t classes) {
  DataSetInfo info;
  info.name = name;
  info.summary = summary;
  info.keys = {{"tokens", "wordpiece", "wordpiece or word"},
               {"vocab", "0",
                "most tokens in the vocabulary, 16 or more; 0: vocab.txt where it is there, else 8000 "
                "pieces, or all words that occur twice"}};
  info.subfolders = std::move(subfolders);
  info.files = {"train.tsv", "dev.tsv"};
  info.is_mine = [sst = classes == 2](const fs::path& folder) {
    return (folder_name(folder).find("sst") != std::string::npos) == sst;
  };
  info.load = [name, classes](const fs::path& folder, const Values& values, const LoadOptions& options) {
    return load_sentences(name, classes, folder, values, options);
  };
  return info;
}

const bool sst_2 = register_data_set(
    sentence_info("sst-2", "sentences from film reviews, positive or negative, 67,349 + 872",
                  {"sst-2", "SST-2", "sst2", "SST2"}, 2));
const bool sentences = register_data_set(
    sentence_info("sentences", "any train.tsv and dev.tsv: a sentence, a tab, its class", {"sentences"}, 0));

}  // namespace
}  // namespace acp::models
