// `randomk`: k elements chosen at random, the same ones on all ranks, so that their values can be added on
// the way. `randomblock`: k consecutive elements from a random place.
#include <algorithm>
#include <cmath>

#include "compressors/coded_method.h"
#include "compressors/ratio.h"

namespace acp {
namespace {

// A whole number below `limit`, nearly uniform (bias below 2^-32).
std::uint64_t below(const Philox& random, std::uint64_t index, std::uint64_t limit) {
  return static_cast<std::uint64_t>(random.uniform(index) * static_cast<double>(limit));
}

class RandomK final : public Sparsifier {
 public:
  explicit RandomK(const Values& values)
      : ratio_(values),
        unbiased_(values.boolean("unbiased")),
        replace_(values.choice("draw", std::vector<std::string>{"distinct", "replace"}) == "replace") {}

  void select(std::span<const float> y, std::span<const float>, const Block& block,
              Selection& chosen) override {
    const auto n = static_cast<std::uint64_t>(y.size());
    const auto k = static_cast<std::uint64_t>(ratio_.count(static_cast<std::int64_t>(n)));
    const auto random = block.shared(Purpose::select);
    replace_ ? draw(random, n, k, chosen.indices) : draw_distinct(random, n, k, chosen.indices);
    finish(y, k, chosen);
  }

  // A random subset of a random subset is one: as many as a draw from all would have.
  void narrow(std::span<const float> y, const Block& block, double ratio, const Selection& from,
              Selection& chosen) override {
    const auto n = static_cast<std::int64_t>(y.size());
    auto smaller = ratio_;
    smaller.set(ratio);
    const auto k = static_cast<std::uint64_t>(smaller.count(n));
    chosen.clear();
    // Numbers of another block than those of `from`.
    const auto name = std::string(block.name) + " narrowed";
    Block own = block;
    own.name = name;
    draw_distinct(own.shared(Purpose::select), from.indices.size(),
                  std::min<std::uint64_t>(k, from.indices.size()), chosen.indices);
    for (auto& index : chosen.indices) index = from.indices[index];
    finish(y, k, chosen);
  }
  bool narrows_exactly() const override { return !replace_; }
  bool shared_choice() const override { return true; }
  // y / p is sent and y (1 - 1 / p) would be kept: the memory would grow by 1 / p a step.
  bool allows_memory() const override { return !unbiased_; }
  void set_ratio(double ratio) override { ratio_.set(ratio); }

 private:
  void finish(std::span<const float> y, std::uint64_t k, Selection& chosen) const {
    take_values(y, chosen);
    if (!unbiased_) return;
    const auto n = static_cast<double>(y.size());
    const double p =
        replace_ ? 1 - std::pow(1 - 1.0 / n, static_cast<double>(k)) : static_cast<double>(k) / n;
    for (auto& value : chosen.values) value = static_cast<float>(value / p);
  }

  // k draws; what is drawn twice is sent once.
  static void draw(const Philox& random, std::uint64_t n, std::uint64_t k,
                   std::vector<std::uint32_t>& indices) {
    for (std::uint64_t i = 0; i < k; ++i) indices.push_back(static_cast<std::uint32_t>(below(random, i, n)));
    std::ranges::sort(indices);
    indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
  }

  // Floyd's algorithm on a bitmap: every k-subset equally likely, k draws whatever k is.
  void draw_distinct(const Philox& random, std::uint64_t n, std::uint64_t k,
                     std::vector<std::uint32_t>& indices) {
    taken_.assign((n + 63) / 64, 0);
    const auto take = [&](std::uint64_t i) {
      auto& word = taken_[i / 64];
      const auto bit = std::uint64_t{1} << (i % 64);
      const bool free = (word & bit) == 0;
      word |= bit;
      return free;
    };
    for (std::uint64_t j = n - k; j < n; ++j) {
      if (!take(below(random, j, j + 1))) take(j);
    }
    indices.reserve(k);
    for (std::size_t w = 0; w < taken_.size(); ++w) {
      for (auto word = taken_[w]; word != 0; word &= word - 1) {
        indices.push_back(static_cast<std::uint32_t>(w * 64) +
                          static_cast<std::uint32_t>(std::countr_zero(word)));
      }
    }
  }

  Ratio ratio_;
  bool unbiased_, replace_;
  std::vector<std::uint64_t> taken_;
};

class RandomBlock final : public Sparsifier {
 public:
  explicit RandomBlock(const Values& values) : ratio_(values), rank_(values.integer("rank", 0, 1'000'000)) {}

  void select(std::span<const float> y, std::span<const float>, const Block& block,
              Selection& chosen) override {
    const auto n = static_cast<std::int64_t>(y.size()), k = count(n, block.shape);
    // Nothing is drawn for a block that is the whole tensor.
    const auto start = k == n ? 0
                              : static_cast<std::int64_t>(
                                    below(block.shared(Purpose::select), 0, static_cast<std::uint64_t>(n)));
    // Around the end: the part at the beginning comes first, as indices ascend.
    for (std::int64_t i = 0; i < start + k - n; ++i) chosen.indices.push_back(static_cast<std::uint32_t>(i));
    for (std::int64_t i = start; i < std::min(start + k, n); ++i) {
      chosen.indices.push_back(static_cast<std::uint32_t>(i));
    }
    take_values(y, chosen);
  }
  bool shared_choice() const override { return true; }
  void set_ratio(double ratio) override {
    ratio_.set(ratio);
    rank_ = 0;
  }
  // The beginning of the same block, which costs no more than to choose it anew.
  void narrow(std::span<const float> y, const Block& block, double ratio, const Selection&,
              Selection& chosen) override {
    const auto own = ratio_;
    const auto rank = std::exchange(rank_, 0);
    ratio_.set(ratio);
    chosen.clear();
    select(y, {}, block, chosen);
    ratio_ = own;
    rank_ = rank;
  }
  bool narrows_exactly() const override { return true; }

  // The volume of Power-SGD of that rank, if one is given; the whole of a vector.
  std::int64_t count(std::int64_t n, std::span<const std::int64_t> shape) const {
    if (rank_ == 0) return ratio_.count(n);
    if (shape.size() < 2 || n == 0) return n;
    return std::min(n, rank_ * (shape[0] + n / shape[0]));
  }

 private:
  Ratio ratio_;
  std::int64_t rank_;
};

std::vector<KeyInfo> with(std::vector<KeyInfo> keys, std::vector<KeyInfo> more) {
  keys.insert(keys.end(), more.begin(), more.end());
  return keys;
}

const bool registered =
    register_sparsifier({
        .name = "randomk",
        .summary = "k random elements, the same ones on all ranks",
        .source = "Stich et al., Sparsified SGD with memory, NeurIPS 2018; Wangni et al., NeurIPS 2018",
        .keys =
            with(ratio_keys("0.3"),
                 {{"unbiased", "off", "divide by the probability of being chosen; needs memory none"},
                  {"draw", "distinct", "distinct, or replace: k draws of which repeated ones count once"}}),
        .knob = Knob::ratio,
        .exchanges = {"reduce", "gather"},
        .make = [](const Values& values) { return std::make_unique<RandomK>(values); },
        .kept =
            [](std::span<const std::int64_t> shape, const Values& values) {
              const auto n = numel(shape);
              const auto k = static_cast<double>(Ratio(values).count(n));
              if (values.text("draw") != "replace") return k;
              return static_cast<double>(n) * (1 - std::pow(1 - 1.0 / static_cast<double>(n), k));
            },
    }) &&
    register_sparsifier({
        .name = "randomblock",
        .summary = "k consecutive elements from a random place, the same ones on all ranks",
        .source = "Vogels et al., PowerSGD, NeurIPS 2019, appendix G: random block",
        .keys = with(ratio_keys("0.3"),
                     {{"rank", "0",
                       "not 0: as many elements of a matrix as Power-SGD of this rank sends, instead of "
                       "ratio; all of a vector, and of parameters coded together"}}),
        .knob = Knob::ratio,
        .knob_rival = "rank",
        .exchanges = {"reduce", "gather"},
        // Whole stretches of a tensor take the sum of many steps at once; momentum on top overshoots.
        .recipe = {.lr = 0.25, .momentum = 0},
        .make = [](const Values& values) { return std::make_unique<RandomBlock>(values); },
        .kept =
            [](std::span<const std::int64_t> shape, const Values& values) {
              return static_cast<double>(RandomBlock(values).count(numel(shape), shape));
            },
    });

}  // namespace
}  // namespace acp
