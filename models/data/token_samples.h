// A running text as samples of T tokens, for language models.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/data_set.h"

namespace acp::models {

// A part of a text: word numbers in [0, classes).
using Tokens = std::vector<std::int32_t>;

// Sample i: inputs {int64 [T]} = tokens iT to (i+1)T - 1, target int64 [T] = the token after each. Of N
// tokens N - 1 are predicted, each in one sample. In training the incomplete last sample is left out; in
// evaluation it is filled up: its inputs with token 0, its target with -100.
class TokenSamples final : public Samples {
 public:
  TokenSamples(Tokens tokens, std::int64_t length, bool training);

  std::int64_t size() const override { return size_; }
  Batch get(std::span<const std::int64_t> indices, std::int64_t epoch) const override;
  const Tokens& tokens() const { return tokens_; }

 private:
  Tokens tokens_;
  std::int64_t length_, size_;
};

// T as the model wants it: the length of its first input, if that is a list of numbers; else 35.
std::int64_t wanted_length(const LoadOptions& options);

// The set of these parts, in contiguous order; an empty `test` means that there is none. DataError when a
// part has no sample.
DataSet text_set(std::string name, std::int64_t classes, Tokens train, Tokens eval, Tokens test,
                 std::int64_t length);

}  // namespace acp::models
