// `topk`: the k elements of largest magnitude. `globaltopk`: the same over the whole gradient of the model.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "comm/error.h"
#include "compressors/coded_method.h"
#include "compressors/kernels/moments.h"
#include "compressors/kernels/select.h"
#include "compressors/ratio.h"

namespace acp {
namespace {

// How many elements pay best for what they cost: the T that maximises
//   (sum of the T largest squares) / (sum of all squares) / cost(T),  cost(T) = c0 T bits / packet + c1,
// looked for from T = 1 until the value falls.
struct Cat {
  double c0, c1, packet;

  std::size_t count(std::span<const float> y) const {
    std::vector<std::uint32_t> magnitudes(y.size());
    std::ranges::transform(y, magnitudes.begin(), kernels::magnitude);
    std::ranges::sort(magnitudes, std::greater<>());
    const double total = kernels::sum_sq(y);
    if (total == 0) return 1;  // nothing pays: as few as there may be
    const double bits = 32 + std::ceil(std::log2(static_cast<double>(y.size())));
    double sum = 0, before = 0;
    for (std::size_t t = 1; t <= y.size(); ++t) {
      const double value = static_cast<double>(std::bit_cast<float>(magnitudes[t - 1]));
      sum += value * value;
      const double worth = sum / (total * (c0 * static_cast<double>(t) * bits / packet + c1));
      if (t > 1 && worth < before) return t - 1;
      before = worth;
    }
    return std::max<std::size_t>(y.size() - 1, 1);
  }
};

class TopK final : public Sparsifier {
 public:
  explicit TopK(const Values& values)
      : ratio_(values),
        cat_{values.number("c0", 0, 1e12), values.number("c1", 0, 1e12), values.number("packet", 1, 1e12)},
        by_cost_(values.choice("count", std::vector<std::string>{"ratio", "cat"}) == "cat") {}

  void select(std::span<const float> y, std::span<const float>, const Block&, Selection& chosen) override {
    const auto k = by_cost_ ? cat_.count(y)
                            : static_cast<std::size_t>(ratio_.count(static_cast<std::int64_t>(y.size())));
    kernels::top_k(y, k, chosen.indices, chosen.values);
  }
  std::optional<std::int64_t> kept_largest(std::int64_t n) const override {
    return by_cost_ ? std::nullopt : std::optional(ratio_.count(n));
  }
  void set_ratio(double ratio) override {
    if (by_cost_) throw Error("count=cat chooses the number of elements itself");
    ratio_.set(ratio);
  }
  void narrow(std::span<const float> y, const Block&, double ratio, const Selection& from,
              Selection& chosen) override {
    auto smaller = ratio_;
    smaller.set(ratio);
    largest_of(from, static_cast<std::size_t>(smaller.count(static_cast<std::int64_t>(y.size()))), chosen);
  }
  // Whatever is among the k largest of all is among the k largest of any choice that holds them.
  bool narrows_exactly() const override { return !by_cost_; }

 private:
  Ratio ratio_;
  Cat cat_;
  bool by_cost_;
};

std::vector<KeyInfo> keys() {
  auto result = ratio_keys("0.01");
  result.insert(result.end(), {{"count", "ratio",
                                "ratio, or cat: as many as pay best for their cost c0 T bits / packet + c1"},
                               {"c0", "1", "cost of a packet (count=cat)"},
                               {"c1", "60", "cost of a message (count=cat)"},
                               {"packet", "1460", "bits of a packet, as CAT counts them (count=cat)"}});
  return result;
}

SparsifierInfo top_k(std::string name, std::string summary, std::string granularity) {
  return {
      .name = std::move(name),
      .summary = std::move(summary),
      .source =
          "Stich et al., Sparsified SGD with memory, NeurIPS 2018; count=cat: Khirirat et al., AAAI 2021",
      .keys = keys(),
      .knob = Knob::ratio,
      .knob_rival = "count",
      .exchanges = {"gather", "tree"},
      .granularity = std::move(granularity),
      .make = [](const Values& values) { return std::make_unique<TopK>(values); },
      .kept = [](std::span<const std::int64_t> shape,
                 const Values& values) { return static_cast<double>(Ratio(values).count(numel(shape))); },
  };
}

const bool registered =
    register_sparsifier(
        top_k("topk", "the k elements of largest magnitude of each tensor, exact", "layer")) &&
    register_sparsifier(
        top_k("globaltopk", "the k elements of largest magnitude of the whole gradient, exact", "model"));

}  // namespace
}  // namespace acp
