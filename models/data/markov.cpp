// A text process of known entropy, for language models without data: which words may follow depends on the
// last two words, how likely they are does not.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "comm/error.h"
#include "models/data/token_samples.h"
#include "models/random.h"

namespace acp::models {
namespace {

// After each pair of words `choices` words may follow (fewer where the vocabulary is smaller); the r-th of
// them, r = 0, 1, ..., has probability weight(r) / (sum of all weights), about 1 / (r + 1). So the entropy
// rate is the entropy of these probabilities, whatever the words. Of the word before the last, parity alone
// matters: a process of 2V states, of which one word of memory sees V.
class Process {
 public:
  Process(std::int64_t vocabulary, std::uint64_t seed)
      : vocabulary_(vocabulary), seed_(seed), choices_(std::min<std::int64_t>(vocabulary, most_choices)) {
    for (std::int64_t r = 0; r < choices_; ++r) total_ += weight(r);
  }

  Tokens generate(std::int64_t count, std::uint64_t part) const {
    Random random{{seed_, part}};
    Tokens tokens;
    tokens.reserve(static_cast<std::size_t>(count));
    std::int64_t before = 0, last = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      std::int64_t left = random.below(total_), rank = 0;
      while (left >= weight(rank)) left -= weight(rank++);
      before = std::exchange(last, (first(before % 2, last) + rank) % vocabulary_);
      tokens.push_back(static_cast<std::int32_t>(last));
    }
    return tokens;
  }

  // In nats a token.
  double entropy() const {
    double sum = 0;
    for (std::int64_t r = 0; r < choices_; ++r) {
      const double p = static_cast<double>(weight(r)) / static_cast<double>(total_);
      sum -= p * std::log(p);
    }
    return sum;
  }

 private:
  static constexpr std::int64_t most_choices = 12;
  static std::int64_t weight(std::int64_t rank) { return 5'000'000 / (rank + 1); }

  // The likeliest word after these; the others follow it. The cube of a uniform number: small numbers are
  // frequent words, as in real vocabularies.
  std::int64_t first(std::int64_t parity, std::int64_t last) const {
    Random random{{seed_, 2, static_cast<std::uint64_t>(parity), static_cast<std::uint64_t>(last)}};
    constexpr std::int64_t one = 1 << 20;
    const std::int64_t u = random.below(one);
    return u * u / one * u / one * vocabulary_ / one;
  }

  std::int64_t vocabulary_;
  std::uint64_t seed_;
  std::int64_t choices_, total_ = 0;
};

DataSet load(const std::filesystem::path&, const Values& values, const LoadOptions& options) {
  constexpr std::int64_t most = 1'000'000'000;
  const auto& inputs = options.wanted.inputs;
  std::int64_t vocabulary = values.integer("vocab", 0, 10'000'000);
  if (vocabulary == 0) vocabulary = inputs.empty() || inputs[0].classes == 0 ? 1000 : inputs[0].classes;
  if (vocabulary < 2) throw ConfigError("markov: a vocabulary of 1 word; at least 2 are needed");
  const Process process(vocabulary, static_cast<std::uint64_t>(values.integer("seed", 0, most)));
  DataSet set = text_set("markov", vocabulary, process.generate(values.integer("train", 2, most), 0),
                         process.generate(values.integer("eval", 2, most), 1), {}, wanted_length(options));
  const double entropy = process.entropy();
  set.facts = {"vocabulary: " + std::to_string(vocabulary) + " words",
               "entropy rate: " + std::to_string(entropy) +
                   " nats a token: no model has a perplexity below " + std::to_string(std::exp(entropy))};
  return set;
}

const bool registered = register_data_set({
    .name = "markov",
    .summary =
        "text from a random process, for when no data is there; entropy rate 2.137 nats (12 words or more): "
        "the best perplexity is 8.47",
    .keys = {{"vocab", "0", "words, at least 2; 0: as many as the model has, or 1000"},
             {"train", "1000000", "training tokens, at least 2"},
             {"eval", "100000", "evaluation tokens, at least 2"},
             {"seed", "1", "of the process and its text, whatever the run's seed"}},
    .load = load,
});

}  // namespace
}  // namespace acp::models
