// `topk`: the k elements of largest magnitude. `globaltopk`: the same over the whole gradient of the model.
#include <algorithm>
#include <cmath>

#include "compressors/coded_method.h"
#include "compressors/kernels/select.h"
#include "compressors/ratio.h"

namespace acp {
namespace {

class TopK final : public Sparsifier {
 public:
  explicit TopK(const Values& values) : ratio_(values) {}

  void select(std::span<const float> y, std::span<const float>, const Block&, Selection& chosen) override {
    kernels::top_k(y, static_cast<std::size_t>(ratio_.count(static_cast<std::int64_t>(y.size()))),
                   chosen.indices);
    take_values(y, chosen);
  }
  void set_ratio(double ratio) override { ratio_.set(ratio); }

 private:
  Ratio ratio_;
};

SparsifierInfo top_k(std::string name, std::string summary, std::string granularity) {
  return {
      .name = std::move(name),
      .summary = std::move(summary),
      .source = "Stich et al., Sparsified SGD with memory, NeurIPS 2018; ties to the lower index",
      .keys = ratio_keys("0.01"),
      .knob = Knob::ratio,
      .exchanges = {"gather", "tree"},
      .granularity = std::move(granularity),
      .make = [](const Values& values) { return std::make_unique<TopK>(values); },
      .kept = [](std::int64_t n,
                 const Values& values) { return static_cast<double>(Ratio(values).count(n)); },
  };
}

const bool registered =
    register_sparsifier(
        top_k("topk", "the k elements of largest magnitude of each tensor, exact", "layer")) &&
    register_sparsifier(
        top_k("globaltopk", "the k elements of largest magnitude of the whole gradient, exact", "model"));

}  // namespace
}  // namespace acp
