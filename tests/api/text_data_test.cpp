// Text for language models: words and their numbers, samples, parts, damage; the real Penn Treebank where it
// is; and the process that stands in for it.
#include <torch/torch.h>

#include <map>

#include "comm/error.h"
#include "models/data/token_samples.h"
#include "models/loader.h"
#include "tests/catch.h"
#include "tests/support/data_sets.h"
#include "tests/support/idx_files.h"

namespace acp {
namespace {

using namespace models;
namespace fs = std::filesystem;

SampleSpec wanted_text(std::int64_t length, std::int64_t classes = 10) {
  return {{{{length}, classes}}, {{length}, classes}};
}

const Tokens& tokens_of(const Samples& samples) {
  return dynamic_cast<const TokenSamples&>(samples).tokens();
}

TEST_CASE("tokens become samples, each predicted once", "[api][data]") {
  const Tokens tokens{5, 6, 7, 8, 9, 1, 2, 3};  // 7 are predicted
  const TokenSamples training(tokens, 3, true), evaluation(tokens, 3, false);
  CHECK(training.size() == 2);
  CHECK(evaluation.size() == 3);
  const Batch batch = get_all(evaluation);
  CHECK(batch.size == 3);
  CHECK(batch.inputs.at(0).equal(torch::tensor({{5, 6, 7}, {8, 9, 1}, {2, 3, 0}})));
  CHECK(batch.target.equal(torch::tensor({{6, 7, 8}, {9, 1, 2}, {3, -100, -100}})));
  CHECK(get_all(training).target.equal(batch.target.narrow(0, 0, 2)));
  // One more token does not make a sample in which nothing is predicted.
  CHECK(TokenSamples({1, 2, 3, 4}, 3, false).size() == 1);
  CHECK(TokenSamples({1, 2, 3, 4}, 3, true).size() == 1);
  CHECK(TokenSamples({1, 2, 3}, 3, true).size() == 0);
}

TEST_CASE("text is numbered by the frequency of its words", "[api][data]") {
  const TempFolder temp;
  temp.write("train.txt", text_bytes("b a <unk>\n c  a\tb \n\na d\n"));
  temp.write("valid.txt.gz", gzip(text_bytes("c new\n")));
  temp.write("test.txt", text_bytes("d d\r\nb"));  // other line ends, and none at all
  const DataSet set = load_set("text", temp.path(), {.wanted = wanted_text(2)});
  // <eos> 4, a 3, b 2, then <unk>, c, d once each.
  CHECK(tokens_of(*set.train) == Tokens{2, 1, 3, 0, 4, 1, 2, 0, 0, 1, 5, 0});
  CHECK(tokens_of(*set.eval) == Tokens{4, 3, 0});
  CHECK(tokens_of(*set.test) == Tokens{5, 5, 0, 2, 0});
  CHECK(set.sample == wanted_text(2, 6));
  CHECK(set.order == Order::contiguous);
  CHECK(load_set("text", temp.path(), {.wanted = wanted_text(4)}).train->size() == 2);
}

TEST_CASE("unknown words without <unk> in training: what occurs once is it", "[api][data]") {
  const TempFolder temp;
  temp.write("train.txt", text_bytes("a b a c\nb a\n"));
  temp.write("valid.txt", text_bytes("a b\n"));
  const auto load = [&] { return load_set("text", temp.path(), {.wanted = wanted_text(2)}); };
  CHECK(load().sample.inputs[0].classes == 4);  // a, <eos>, b, c
  CHECK_FALSE(load().test);
  temp.write("valid.txt", text_bytes("a z\n"));
  const DataSet set = load();
  CHECK(set.sample.inputs[0].classes == 4);  // a, <eos>, b, <unk>
  CHECK(tokens_of(*set.train) == Tokens{0, 2, 0, 3, 1, 2, 0, 1});
  CHECK(tokens_of(*set.eval) == Tokens{0, 3, 1});
}

TEST_CASE("text is found by its owners' names", "[api][data]") {
  const TempFolder temp;
  const auto write = [&](const std::string& folder, const std::string& before, const std::string& after) {
    for (const char* part : {"train", "valid", "test"})
      temp.write(folder + "/" + before + part + after, text_bytes("a b c a b c\na b c\n"));
  };
  const std::vector<std::string> all{"ptb", "wikitext-2", "wikitext-103", "text"};
  const auto chosen = [&](const std::string& folder) {
    return choose_data(all, (temp.path() / folder).string()).set->name;
  };
  write("mine", "", ".txt");
  write("ptb", "ptb.", ".txt");
  write("wikitext-2", "wiki.", ".tokens");
  write("wikitext-103", "wiki.", ".tokens");
  write("other", "wiki.", ".tokens");
  CHECK(chosen("mine") == "text");
  CHECK(chosen("ptb") == "ptb");
  CHECK(chosen("wikitext-2") == "wikitext-2");
  CHECK(chosen("wikitext-2/") == "wikitext-2");
  CHECK(chosen("wikitext-103") == "wikitext-103");
  CHECK(chosen("other") == "text");
  CHECK(chosen(".") == "ptb");
  for (const std::string name : {"ptb", "wikitext-2", "wikitext-103"}) {
    const DataSet set = load_set(name, temp.path() / name, {.wanted = wanted_text(3)});
    CHECK(set.name == name);
    CHECK(tokens_of(*set.test).size() == 11);
  }
}

TEST_CASE("wrong text files are named", "[api][data]") {
  const TempFolder temp;
  temp.write("ptb.train.txt", text_bytes("a b c\n"));
  temp.write("ptb.valid.txt", text_bytes("a b\n"));
  temp.write("ptb.test.txt", text_bytes("a b\n"));
  const auto load = [&] { load_set("ptb", temp.path(), {.wanted = wanted_text(2)}); };
  CHECK_NOTHROW(load());
  SECTION("missing") {
    fs::remove(temp.path() / "ptb.valid.txt");
    CHECK_THROWS_AS(load(), DataError);
    CHECK_THROWS_WITH(load(), ContainsSubstring("ptb.valid.txt: no such file"));
  }
  SECTION("empty") {
    temp.write("ptb.valid.txt", {});
    CHECK_THROWS_WITH(load(), ContainsSubstring("ptb.valid.txt: empty"));
  }
  SECTION("not text") {
    temp.write("ptb.test.txt", {'a', ' ', 0, 'b'});
    CHECK_THROWS_WITH(load(), ContainsSubstring("ptb.test.txt: byte 2 is zero, expected text"));
  }
  SECTION("truncated") {
    FileBytes packed = gzip(text_bytes("a b c d e f\n"));
    packed.resize(packed.size() - 5);
    fs::remove(temp.path() / "ptb.train.txt");
    temp.write("ptb.train.txt.gz", packed);
    CHECK_THROWS_WITH(load(), ContainsSubstring("ptb.train.txt.gz: truncated gzip data"));
  }
  SECTION("less than a sample") {
    temp.write("ptb.train.txt", text_bytes("a\n"));
    CHECK_THROWS_WITH(load(), ContainsSubstring("training part has 2 tokens, and a sample takes 3"));
  }
}

TEST_CASE("all ranks make as many steps over text, and evaluate each token once", "[api][data]") {
  const TempFolder temp;
  std::string text;
  for (int i = 0; i < 500; ++i) text += "w" + std::to_string(i % 37) + (i % 9 == 8 ? "\n" : " ");
  temp.write("train.txt", text_bytes(text));
  temp.write("valid.txt", text_bytes(text.substr(0, 700)));
  const DataSet set = load_set("text", temp.path(), {.wanted = wanted_text(7)});
  std::int64_t predicted = 0;
  for (int rank = 0; rank < 3; ++rank) {
    const LoaderOptions options{.rank = rank, .size = 3, .batch_size = 4, .order = set.order};
    const TrainingLoader loader(set.train, options);
    CHECK(loader.batches() == set.train->size() / 12);
    std::int64_t batches = 0;
    for (const Batch& batch : loader.epoch(0))
      batches += batch.target.min().item<std::int64_t>() >= 0 ? 1 : 0;
    CHECK(batches == loader.batches());
    for (const Batch& batch : evaluation_batches(set.eval, options))
      predicted += (batch.target != -100).sum().item<std::int64_t>();
  }
  CHECK(predicted == static_cast<std::int64_t>(tokens_of(*set.eval).size()) - 1);
}

TEST_CASE("real Penn Treebank", "[api][data]") {
  const auto folder = real_folder("ptb");
  if (folder.empty()) return;
  const DataSet set = load_set("ptb", folder);
  CHECK(set.sample == wanted_text(35, 10000));
  CHECK(tokens_of(*set.train).size() == 929589);
  CHECK(tokens_of(*set.eval).size() == 70390 + 3370);
  CHECK(tokens_of(*set.test).size() == 78669 + 3761);
  CHECK(set.train->size() == 929588 / 35);
  // The most frequent: the, <unk>, <eos>, N, of.
  std::vector<std::int64_t> counts(5);
  for (const auto token : tokens_of(*set.train)) {
    if (token < 5) ++counts[static_cast<std::size_t>(token)];
  }
  CHECK(counts == std::vector<std::int64_t>{50770, 45020, 42068, 32481, 24400});
  // "aer banknote ... wachter <eos> pierre <unk> N years old": 24 words before the end of the first line.
  const Tokens& train = tokens_of(*set.train);
  CHECK(train.at(24) == 2);
  CHECK(train.at(26) == 1);
  CHECK(train.at(27) == 3);
}

TEST_CASE("the built-in text process has the entropy that it says", "[api][data]") {
  const DataSet set =
      load_set("markov", {}, {.wanted = wanted_text(35)}, {{"vocab", "50"}, {"train", "400000"}});
  CHECK(set.sample == wanted_text(35, 50));
  CHECK(tokens_of(*set.train).size() == 400000);
  CHECK(tokens_of(*set.eval).size() == 100000);
  CHECK_THAT(set.facts.at(1), ContainsSubstring("entropy rate: 2.136959"));
  // Entropies given no, one and two words before, estimated by counting: two words know all that there is to
  // know (counting errs to the low side by about states * choices / (2 * tokens) = 0.03).
  const Tokens& tokens = tokens_of(*set.train);
  const auto entropy = [&](std::size_t memory) {
    std::map<Tokens, std::map<std::int32_t, double>> counts;
    for (std::size_t i = 2; i < tokens.size(); ++i) {
      const Tokens before(tokens.begin() + static_cast<std::ptrdiff_t>(i - memory),
                          tokens.begin() + static_cast<std::ptrdiff_t>(i));
      ++counts[before][tokens[i]];
    }
    double sum = 0;
    for (const auto& [before, next] : counts) {
      double total = 0;
      for (const auto& [token, count] : next) total += count;
      for (const auto& [token, count] : next) sum -= count * std::log(count / total);
    }
    return sum / static_cast<double>(tokens.size() - 2);
  };
  CHECK(entropy(2) == Approx(2.137).margin(0.04));
  CHECK(entropy(1) > 2.3);
  CHECK(entropy(0) > entropy(1) + 0.5);
}

TEST_CASE("the built-in text process follows the model and its own seed", "[api][data]") {
  const std::map<std::string, std::string> small{{"train", "2000"}, {"eval", "100"}};
  const DataSet set = load_set("markov", {}, {.wanted = wanted_text(5, 300)}, small);
  CHECK(set.sample == wanted_text(5, 300));
  const auto [low, high] = std::minmax_element(tokens_of(*set.train).begin(), tokens_of(*set.train).end());
  CHECK(*low >= 0);
  CHECK(*high < 300);
  CHECK(tokens_of(*load_set("markov", {}, {.wanted = wanted_text(5, 300), .seed = 7}, small).train) ==
        tokens_of(*set.train));
  auto other = small;
  other["seed"] = "2";
  CHECK(tokens_of(*load_set("markov", {}, {.wanted = wanted_text(5, 300)}, other).train) !=
        tokens_of(*set.train));
  CHECK(load_set("markov", {}, {}, small).sample == wanted_text(35, 1000));
  CHECK_THROWS_AS(load_set("markov", {}, {}, {{"vocab", "1"}}), ConfigError);
  const std::vector<std::string> accepted{"ptb", "markov", "synthetic"};
  const Environment variable("ACP_DATA", nullptr);
  CHECK(choose_data(accepted, "").set->name == "markov");
}

}  // namespace
}  // namespace acp
