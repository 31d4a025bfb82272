// `dgc`, `redsync`, `sidco`: as many elements as top-k would choose, approximately, by a threshold that is
// estimated.
#include <algorithm>
#include <cmath>

#include "compressors/coded_method.h"
#include "compressors/kernels/select.h"
#include "compressors/ratio.h"
#include "compressors/threshold_search.h"

namespace acp {
namespace {

void take_cut(std::span<const float> y, const Cut& cut, Selection& chosen) {
  kernels::collect(y, cut.least, y.size(), chosen.indices);
  take_values(y, chosen);
}

// The exact choice, without zeros: they carry nothing.
void take_exact(std::span<const float> y, std::int64_t k, Selection& chosen) {
  kernels::top_k(y, static_cast<std::size_t>(k), chosen.indices, chosen.values);
  std::erase_if(chosen.indices, [&](auto i) { return y[i] == 0; });
  take_values(y, chosen);
}

class Dgc final : public Sparsifier {
 public:
  explicit Dgc(const Values& values) : ratio_(values), exact_below_(values.number("exact_below", 0, 1e12)) {}

  void select(std::span<const float> y, std::span<const float>, const Block& block,
              Selection& chosen) override {
    const auto n = y.size();
    const auto k = ratio_.count(static_cast<std::int64_t>(n));
    if (static_cast<double>(n) < exact_below_ / ratio_.value()) return take_exact(y, k, chosen);
    const auto random = block.own(Purpose::select);
    std::vector<std::uint32_t> positions(std::max<std::size_t>(1, n / 100));
    for (std::size_t i = 0; i < positions.size(); ++i) {
      positions[i] = static_cast<std::uint32_t>(random.uniform(i) * static_cast<double>(n));
    }
    const auto cut = dgc_threshold(y, ratio_.value(), positions);
    // No multiple of zero is anything else: a sample of zeros says nothing about the rest.
    cut.least == 1 ? take_exact(y, k, chosen) : take_cut(y, cut, chosen);
  }
  void set_ratio(double ratio) override { ratio_.set(ratio); }

 private:
  Ratio ratio_;
  double exact_below_;
};

class RedSync final : public Sparsifier {
 public:
  explicit RedSync(const Values& values)
      : ratio_(values),
        literal_(values.choice("form", std::vector<std::string>{"corrected", "literal"}) == "literal") {}

  void select(std::span<const float> y, std::span<const float>, const Block&, Selection& chosen) override {
    const auto k = ratio_.count(static_cast<std::int64_t>(y.size()));
    // No threshold below the mean is ever tried: then the search cannot end.
    const bool search = literal_ || ratio_.value() <= 0.4;
    const auto cut = search ? redsync_threshold(y, static_cast<std::size_t>(k), literal_) : std::nullopt;
    cut ? take_cut(y, *cut, chosen) : take_exact(y, k, chosen);
  }
  void set_ratio(double ratio) override { ratio_.set(ratio); }

 private:
  Ratio ratio_;
  bool literal_;
};

class Sidco final : public Sparsifier {
 public:
  explicit Sidco(const Values& values) : ratio_(values), stages_(values.integer("stages", 0, 100)) {}

  void select(std::span<const float> y, std::span<const float>, const Block&, Selection& chosen) override {
    const auto cut = sidco_threshold(y, ratio_.value(), stages_);
    // The tail of the fit may begin beyond the largest of few elements, which then were never sent.
    const bool some = cut && cut->count > 0;
    some ? take_cut(y, *cut, chosen)
         : take_exact(y, ratio_.count(static_cast<std::int64_t>(y.size())), chosen);
  }
  void set_ratio(double ratio) override { ratio_.set(ratio); }

 private:
  Ratio ratio_;
  std::int64_t stages_;
};

std::vector<KeyInfo> keys_and(KeyInfo more) {
  auto keys = ratio_keys("0.01");
  keys.push_back(std::move(more));
  return keys;
}

double expected(std::span<const std::int64_t> shape, const Values& values) {
  return static_cast<double>(Ratio(values).count(numel(shape)));
}

const bool registered =
    register_sparsifier({
        .name = "dgc",
        .summary =
            "about k elements, above a threshold that a 1 % sample gives; its own memory is memory=dgc",
        .source = "Lin et al., Deep gradient compression, ICLR 2018, section 3",
        .keys = keys_and({"exact_below", "100",
                          "tensors of fewer than exact_below / ratio elements by exact top-k; 0 = none"}),
        .knob = Knob::ratio,
        .memories = {"dgc", "residual", "none"},
        .make = [](const Values& values) { return std::make_unique<Dgc>(values); },
        .kept = expected,
    }) &&
    register_sparsifier({
        .name = "redsync",
        .summary = "k to 2 k elements, above a threshold found by bisection; else exact top-k",
        .source = "Fang et al., RedSync, JPDC 2019, algorithm 2",
        .keys = keys_and({"form", "corrected", "corrected, or literal: at most three tests, as published"}),
        .knob = Knob::ratio,
        .make = [](const Values& values) { return std::make_unique<RedSync>(values); },
        .kept = expected,
    }) &&
    register_sparsifier({
        .name = "sidco",
        .summary = "about k elements, above the threshold of exponential distributions fitted in stages",
        .source = "Abdelmoniem et al., SIDCo, MLSys 2021, exponential fit",
        .keys = keys_and({"stages", "0", "number of fits, 0 = as many as the ratio needs"}),
        .knob = Knob::ratio,
        .make = [](const Values& values) { return std::make_unique<Sidco>(values); },
        .kept = expected,
    });

}  // namespace
}  // namespace acp
