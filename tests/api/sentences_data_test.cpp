// Sentences with classes: words, pieces of words, rows, damage; and the real SST-2 where it is.
#include <torch/torch.h>

#include <map>
#include <set>

#include "comm/error.h"
#include "models/data/piece_vocabulary.h"
#include "models/data/tokeniser.h"
#include "models/random.h"
#include "tests/catch.h"
#include "tests/support/data_sets.h"
#include "tests/support/idx_files.h"

namespace acp {
namespace {

using namespace models;
namespace fs = std::filesystem;

using Strings = std::vector<std::string>;

SampleSpec wanted_sentence(std::int64_t length) {
  return {{{{length}, 100}, {{length}, 2}}, {{}, 2}};
}

Strings pieces_of(const Tokeniser& tokeniser, std::string_view sentence) {
  Strings result;
  for (const std::int32_t token : tokeniser.encode(sentence))
    result.push_back(tokeniser.tokens().at(static_cast<std::size_t>(token)));
  return result;
}

TEST_CASE("sentences are split into words", "[api][data]") {
  CHECK(words_of("  It 's\tGOOD , isn't it", false) == Strings{"it", "'s", "good", ",", "isn't", "it"});
  CHECK(words_of("It 's well-made.", true) == Strings{"it", "'", "s", "well", "-", "made", "."});
  CHECK(words_of(" ", true).empty());
}

TEST_CASE("the word tokeniser knows what occurs twice", "[api][data]") {
  const auto tokeniser = make_word_tokeniser({"b a a", "c b a", "d"}, 100);
  CHECK(tokeniser->tokens() == Strings{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"});
  CHECK(tokeniser->encode("A b c") == std::vector<std::int32_t>{5, 6, 1});
  CHECK(make_word_tokeniser({"b a a", "c b a", "d"}, 6)->tokens().back() == "a");
}

TEST_CASE("pieces are joined by frequency", "[api][data]") {
  Words words;
  for (int i = 0; i < 5; ++i) words.add("low");
  for (int i = 0; i < 2; ++i) words.add("lower");
  for (int i = 0; i < 6; ++i) words.add("newest");
  for (int i = 0; i < 3; ++i) words.add("widest");
  // The example of Sennrich et al. (2016): e+s and s+t 9 times, then es+t 9, l+o and o+w 7, then l+ow 7, then
  // n+e, e+w and w+est 6. Of equals the first in alphabetical order ('#' comes before letters).
  const Strings pieces = piece_vocabulary(words, 16);
  const Strings characters(pieces.begin(), pieces.begin() + 11);
  for (const char* each : {"l", "n", "w", "##o", "##w", "##e", "##r", "##s", "##t", "##i", "##d"})
    CHECK(std::count(characters.begin(), characters.end(), each) == 1);
  CHECK(Strings(pieces.begin() + 11, pieces.end()) == Strings{"##es", "##est", "##ow", "low", "##ew"});
  CHECK(piece_vocabulary(words, 5).size() == 11);  // never fewer than the characters
  // All pairs that occur twice: in the end the words are pieces themselves.
  const Strings all = piece_vocabulary(words, 1000);
  for (const char* word : {"low", "lower", "newest", "widest"})
    CHECK(std::count(all.begin(), all.end(), word) == 1);
}

TEST_CASE("joined pieces are those that counting anew gives", "[api][data]") {
  Words words;
  Random random{{1}};
  for (int i = 0; i < 300; ++i) {
    std::string word;
    for (std::int64_t left = random.between(2, 8); left > 0; --left)
      word += static_cast<char>('a' + random.below(4));
    for (std::int64_t times = random.between(1, 3); times > 0; --times) words.add(word);
  }
  // The definition, slowly.
  std::vector<std::pair<Strings, std::int64_t>> cut;
  std::set<std::string> expected;
  for (std::int32_t w = 0; w < words.size(); ++w) {
    auto& [pieces, count] = cut.emplace_back(Strings{}, words.count(w));
    for (const char c : words.spelling(w)) pieces.push_back(std::string(pieces.empty() ? "" : "##") + c);
    expected.insert(pieces.begin(), pieces.end());
  }
  while (expected.size() < 60) {
    std::map<std::pair<std::string, std::string>, std::int64_t> counts;
    for (const auto& [pieces, count] : cut) {
      for (std::size_t i = 1; i < pieces.size(); ++i) counts[{pieces[i - 1], pieces[i]}] += count;
    }
    const auto best = std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
                        return a.second < b.second;  // the first of equals
                      })->first;
    const std::string joined = best.first + best.second.substr(2);
    expected.insert(joined);
    for (auto& [pieces, count] : cut) {
      for (std::size_t i = 1; i < pieces.size(); ++i) {
        if (pieces[i - 1] != best.first || pieces[i] != best.second) continue;
        pieces[i - 1] = joined;
        pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
  }
  const Strings pieces = piece_vocabulary(words, 60);
  CHECK(std::set<std::string>(pieces.begin(), pieces.end()) == expected);
}

TEST_CASE("words are cut into the longest known pieces", "[api][data]") {
  const TempFolder temp;
  const auto file = temp.write(
      "vocab.txt", text_bytes("[PAD]\nun\n[UNK]\n[CLS]\n[SEP]\n##aff\n##able\n##a\n##ff\nun##\n.\n"));
  const auto tokeniser = read_piece_tokeniser(file);
  CHECK(tokeniser->special().unknown == 2);
  CHECK(tokeniser->special().separator == 4);
  CHECK(pieces_of(*tokeniser, "unaffable.") == Strings{"un", "##aff", "##able", "."});
  CHECK(pieces_of(*tokeniser, "UNaff una unx able") == Strings{"un", "##aff", "un", "##a", "[UNK]", "[UNK]"});
  CHECK_THROWS_WITH(read_piece_tokeniser(temp.write("v", text_bytes("[PAD]\n[UNK]\n[CLS]\n"))),
                    ContainsSubstring("v:3: the file ends without the token [SEP]"));
  CHECK_THROWS_WITH(read_piece_tokeniser(temp.write("v", text_bytes("[PAD]\na\na\n"))),
                    ContainsSubstring("v:3: \"a\": this token came before"));
  // Characters outside ASCII stay whole.
  const auto made = make_piece_tokeniser({"caf\xc3\xa9 caf\xc3\xa9 \xc3\xa9t\xc3\xa9"}, 12);
  CHECK(pieces_of(*made, "\xc3\xa9") == Strings{"\xc3\xa9"});
  CHECK(pieces_of(*made, "\xc3") == Strings{"[UNK]"});
}

void write_parts(const TempFolder& temp, const std::string& train, const std::string& dev) {
  temp.write("sst-2/train.tsv", text_bytes(train));
  temp.write("sst-2/dev.tsv.gz", gzip(text_bytes(dev)));
}

TEST_CASE("rows become ids, masks and classes", "[api][data]") {
  const TempFolder temp;
  const fs::path folder = temp.path() / "sst-2";
  write_parts(temp, "label\tsentence\n0\tbad bad film\n1\tgood film\n1\tgood good good fun\n",
              "label\tsentence\n1\tfun film\n");
  const auto load = [&](std::int64_t length) {
    return load_set("sst-2", folder, {.wanted = wanted_sentence(length)}, {{"tokens", "word"}});
  };
  const DataSet set = load(5);
  CHECK(set.sample == SampleSpec{{{{5}, 8}, {{5}, 2}}, {{}, 2}});  // 5 special, good, bad, film
  const Batch batch = get_all(*set.train);
  CHECK(batch.inputs.at(0).equal(torch::tensor({{2, 6, 6, 7, 3}, {2, 5, 7, 3, 0}, {2, 5, 5, 5, 3}})));
  CHECK(batch.inputs.at(1).equal(torch::tensor({{1, 1, 1, 1, 1}, {1, 1, 1, 1, 0}, {1, 1, 1, 1, 1}})));
  CHECK(batch.target.equal(torch::tensor({0, 1, 1})));
  CHECK(get_all(*set.eval).inputs[0].equal(torch::tensor({{2, 1, 7, 3, 0}})));
  CHECK(set.train->class_counts() == std::vector<std::int64_t>{1, 2});
  CHECK_FALSE(set.test);
  CHECK_THAT(set.facts.at(1), ContainsSubstring("cut there: 1"));
  CHECK(load_set("sst-2", folder).sample.inputs[0].shape == std::vector<std::int64_t>{64});
  CHECK_THROWS_AS(load(2), ConfigError);

  // The benchmark's own order of columns, and its test part, with labels and without.
  write_parts(temp, "sentence\tlabel\nbad bad film\t0\ngood film\t1\ngood good good fun\t1\n",
              "sentence\tlabel\nfun film\t1\n");
  CHECK(get_all(*load(5).train).inputs[0].equal(batch.inputs[0]));
  temp.write("sst-2/test.tsv", text_bytes("index\tsentence\n0\tgood\n"));
  CHECK_FALSE(load(5).test);
  temp.write("sst-2/test.tsv", text_bytes("label\tsentence\n0\tgood\n"));
  CHECK(load(5).test->size() == 1);
}

TEST_CASE("pieces are learnt from the training part, or read from vocab.txt", "[api][data]") {
  const TempFolder temp;
  const fs::path folder = temp.path() / "sst-2";
  write_parts(temp, "0\tunhappy\n", "0\tx\n");
  CHECK_THROWS_AS(load_set("sst-2", folder), DataError);  // no header, so the label comes second
  write_parts(temp, "playing playing played\t0\nplays\t1\n", "plays\t1\n");
  const DataSet made = load_set("sst-2", folder, {.wanted = wanted_sentence(8)}, {{"vocab", "20"}});
  CHECK(made.sample.inputs[0].classes == 20);
  CHECK(get_all(*made.eval).inputs[0][0][0].item<std::int64_t>() == 2);
  temp.write("sst-2/vocab.txt", text_bytes("play\n##s\n[SEP]\n[CLS]\n[UNK]\n[PAD]\n"));
  const DataSet read = load_set("sst-2", folder, {.wanted = wanted_sentence(6)});
  CHECK(read.sample.inputs[0].classes == 6);
  CHECK(get_all(*read.eval).inputs[0].equal(torch::tensor({{3, 0, 1, 2, 5, 5}})));
  CHECK(get_all(*read.eval).inputs[1].equal(torch::tensor({{1, 1, 1, 1, 0, 0}})));
  CHECK(get_all(*read.train).inputs[0].equal(torch::tensor({{3, 4, 4, 4, 2, 5}, {3, 0, 1, 2, 5, 5}})));
}

TEST_CASE("any sentences with any classes", "[api][data]") {
  const TempFolder temp;
  temp.write("mine/train.tsv", text_bytes("a b\tworse\na a\tbetter\nb b\tsame\n"));
  temp.write("mine/dev.tsv", text_bytes("b\tsame\n"));
  const std::vector<std::string> both{"sst-2", "sentences"};
  CHECK(choose_data(both, (temp.path() / "mine").string()).set->name == "sentences");
  const auto load = [&] { return load_set("sentences", temp.path() / "mine", {}, {{"tokens", "word"}}); };
  const DataSet set = load();
  CHECK(set.sample.target.classes == 3);  // better, same, worse
  CHECK(get_all(*set.train).target.equal(torch::tensor({2, 0, 1})));
  temp.write("mine/dev.tsv", text_bytes("b\tsame\na\twrong\n"));
  CHECK_THROWS_WITH(load(),
                    ContainsSubstring("dev.tsv:2: label \"wrong\", which the training part does not have"));
  temp.write("mine/train.tsv", text_bytes("a b\t2\na a\t0\nb b\t1\n"));
  temp.write("mine/dev.tsv", text_bytes("b\t1\n"));
  CHECK(get_all(*load().train).target.equal(torch::tensor({2, 0, 1})));
  // Stars and other numbers are names like any other.
  temp.write("mine/train.tsv", text_bytes("a b\t7\na a\t90001\nb b\t7\n"));
  temp.write("mine/dev.tsv", text_bytes("b\t7\n"));
  const DataSet stars = load();
  CHECK(stars.sample.target.classes == 2);
  CHECK(get_all(*stars.train).target.equal(torch::tensor({0, 1, 0})));
  CHECK_THAT(stars.facts.back(), ContainsSubstring("0 = 7 1 = 90001"));
}

TEST_CASE("wrong rows are named by their line", "[api][data]") {
  const TempFolder temp;
  const auto failure = [&](const std::string& train) {
    write_parts(temp, train, "label\tsentence\n1\tgood\n");
    try {
      load_set("sst-2", temp.path() / "sst-2");
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  const std::string header = "label\tsentence\n";
  CHECK(failure(header + "0\tbad\n1\tgood\n") == "nothing");
  CHECK_THAT(failure(header + "0\tbad\n1 good\n"),
             ContainsSubstring("train.tsv:3: 1 columns, expected 2 split by a tab: label, sentence"));
  CHECK_THAT(failure(header + "0\tbad\n1\t \n"), ContainsSubstring("train.tsv:3: no sentence"));
  CHECK_THAT(failure(header + "\tbad\n"), ContainsSubstring("train.tsv:2: no label"));
  CHECK_THAT(failure(header + "0\tbad\n1\tgood\n2\tsoso\n"),
             ContainsSubstring("train.tsv: 3 classes of labels, expected 2"));
  CHECK_THAT(failure(header), ContainsSubstring("train.tsv:1: no rows"));
  CHECK_THAT(failure("index\tsentence\n0\tgood\n"), ContainsSubstring("train.tsv:1: no column of labels"));
}

TEST_CASE("real SST-2", "[api][data]") {
  const auto folder = real_folder("sst-2");
  if (folder.empty()) return;
  const DataSet set = load_set("sst-2", folder);
  CHECK(set.train->class_counts() == std::vector<std::int64_t>{29780, 37569});
  CHECK(set.eval->class_counts() == std::vector<std::int64_t>{428, 444});
  REQUIRE(set.test);
  CHECK(set.test->class_counts() == std::vector<std::int64_t>{912, 909});
  CHECK(set.sample == SampleSpec{{{{64}, 8000}, {{64}, 2}}, {{}, 2}});
  // Unknown are the words of the dev part with characters that training lacks: 12 times "\\", "%" and two
  // accents.
  const Batch dev = get_all(*set.eval);
  CHECK((dev.inputs[0] == 1).sum().item<std::int64_t>() == 15);
  CHECK(dev.inputs[0].select(1, 0).eq(2).all().item<bool>());
  CHECK(dev.inputs[1].sum().item<std::int64_t>() == dev.inputs[0].ne(0).sum().item<std::int64_t>());

  const DataSet words = load_set("sst-2", folder, {}, {{"tokens", "word"}, {"vocab", "5000"}});
  CHECK(words.sample.inputs[0].classes == 5000);
  // "hide new secretions from the parental units": 7 words.
  CHECK(get(*words.train, 0, 1).inputs[1].sum().item<std::int64_t>() == 9);
}

}  // namespace
}  // namespace acp
